# A guest whose console is its journal, for tests of takeover: every 32 ms of its time a line with a number, one
# more each time, and a sum over the time stamp counter and all it was told, so that two histories of one guest
# cannot agree by accident. A character on the serial port goes into the sum; q powers off, r resets.
.intel_syntax noprefix
.code64
.org 0x200                          # the 64-bit entry point
entry:
    cld
    mov esp, 0x90000
    lea rdi, [rip + idt + 0x20 * 16]
    lea rax, [rip + tick]
    call gate
    lea rdi, [rip + idt + 0x24 * 16]
    lea rax, [rip + received]
    call gate
    lea rax, [rip + idt]
    mov [rip + idtr + 2], rax
    lidt [rip + idtr]

    # The local APIC passes the PIC's interrupts on: LINT0 as ExtINT.
    mov ebx, 0xfee00000
    mov dword ptr [rbx + 0xf0], 0x1ff
    mov dword ptr [rbx + 0x350], 0x700

    lea rsi, [rip + ports]          # pairs of port and value, ended by port 0
1:  lodsw
    test ax, ax
    jz 2f
    mov dx, ax
    lodsb
    out dx, al
    jmp 1b
2:  sti
    hlt
    jmp 2b

tick:
    push rax
    push rcx
    push rdx
    inc dword ptr [rip + ticks]
    rdtsc
    call mix
    test dword ptr [rip + ticks], 7
    jnz 3f
    inc dword ptr [rip + lines]
    mov eax, [rip + lines]
    call hex
    mov al, ' '
    call put
    mov eax, [rip + sum]
    call hex
    mov al, 10
    call put
3:  mov al, 0x20
    out 0x20, al
    pop rdx
    pop rcx
    pop rax
    iretq

received:
    push rax
    push rcx
    push rdx
4:  mov dx, 0x3fd
    in al, dx
    test al, 1
    jz 5f
    mov dx, 0x3f8
    in al, dx
    movzx eax, al
    cmp al, 'q'
    je off
    cmp al, 'r'
    je reset
    call mix
    jmp 4b
5:  mov al, 0x20
    out 0x20, al
    pop rdx
    pop rcx
    pop rax
    iretq

# EAX into the sum.
mix:
    xor eax, [rip + sum]
    imul eax, eax, 0x01000193
    add eax, 0x3779b9
    mov [rip + sum], eax
    ret

# EAX as eight hexadecimal digits.
hex:
    mov ecx, 8
6:  rol eax, 4
    push rax
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe 7f
    add al, 'a' - '0' - 10
7:  call put
    pop rax
    loop 6b
    ret

put:
    push rdx
    mov dx, 0x3f8
    out dx, al
    pop rdx
    ret

off:
    mov dx, 0x604                   # PM1a control: SLP_TYP 5, SLP_EN [ACPI 4.8.3.2.1]
    mov ax, 0x3400
    out dx, ax
reset:
    mov dx, 0xcf9
    mov al, 6
    out dx, al

gate:
    mov [rdi], ax
    mov word ptr [rdi + 2], 0x10
    mov word ptr [rdi + 4], 0x8e00
    shr rax, 16
    mov [rdi + 6], ax
    shr rax, 16
    mov [rdi + 8], eax
    ret

ports:
    .word 0x20
    .byte 0x11
    .word 0x21
    .byte 0x20
    .word 0x21
    .byte 4
    .word 0x21
    .byte 1
    .word 0xa1
    .byte 0xff
    .word 0x21
    .byte 0xee                      # IRQ 0 and IRQ 4
    .word 0x43
    .byte 0x34                      # counter 0, mode 2
    .word 0x40
    .byte 0x9c                      # 4764 / 1193182 Hz: 4 ms
    .word 0x40
    .byte 0x12
    .word 0x3fa
    .byte 0x07
    .word 0x3fc
    .byte 0x0b
    .word 0x3f9
    .byte 0x01
    .word 0
idtr: .word 0x2f * 16 + 15
    .quad 0
ticks: .long 0
lines: .long 0
sum: .long 0
.balign 4096
idt: .fill 4096
