# A guest of two hundred instructions for tests of what is around the machine: it takes PIT interrupts, sleeps in
# HLT between them, stirs the time stamp counter into memory, prints a letter of the result now and then, and does
# what single characters tell it, on the serial port or, forty ticks after its start, as the first character of
# the kernel command line:
#   q power off   r reset   d debug exit with 3   t triple fault   h halt for ever   b busy: never sleep again
.intel_syntax noprefix
.code64
.org 0x200                          # the 64-bit entry point
entry:
    cld
    mov esp, 0x90000
    mov eax, [rsi + 0x228]          # boot_params.hdr.cmd_line_ptr
    mov al, [rax]
    mov [rip + command], al

    # Interrupt gates for IRQ 0 and IRQ 4.
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
2:  lea rsi, [rip + hello]
    call print
    sti

main:
    cli
    cmp dword ptr [rip + ticks], 40
    jb 3f
    mov al, [rip + command]
    call obey
3:  cmp byte ptr [rip + busy], 0
    jne 4f
    sti
    hlt
    jmp main
4:  sti
    call stir
    jmp main

tick:
    push rax
    push rcx
    push rdx
    push rdi
    inc dword ptr [rip + ticks]
    call stir
    test dword ptr [rip + ticks], 7
    jnz 5f
    mov al, byte ptr [rip + sum]
    and al, 15
    add al, 'a'
    call put
5:  mov al, 0x20
    out 0x20, al
    pop rdi
    pop rdx
    pop rcx
    pop rax
    iretq

received:
    push rax
    push rdx
6:  mov dx, 0x3fd
    in al, dx
    test al, 1
    jz 7f
    mov dx, 0x3f8
    in al, dx
    call put
    call obey
    jmp 6b
7:  mov al, 0x20
    out 0x20, al
    pop rdx
    pop rax
    iretq

# The time and the ticks, mixed into a sum and stored on one of 16 pages.
stir:
    rdtsc
    add eax, [rip + sum]
    imul eax, eax, 0x01000193
    xor eax, [rip + ticks]
    mov [rip + sum], eax
    mov edx, eax
    and edx, 0xf000
    lea rdi, [rip + scratch]
    add rdi, rdx
    mov ecx, 64
8:  mov [rdi + rcx * 8], rax
    add rax, rcx
    loop 8b
    ret

obey:
    cmp al, 'q'
    je off
    cmp al, 'r'
    je reset
    cmp al, 'd'
    je leave
    cmp al, 't'
    je crash
    cmp al, 'h'
    je halt
    cmp al, 'b'
    jne 9f
    mov byte ptr [rip + busy], 1
9:  ret
off:
    mov dx, 0x604                   # PM1a control: SLP_TYP 5, SLP_EN [ACPI 4.8.3.2.1]
    mov ax, 0x3400
    out dx, ax
reset:
    mov dx, 0xcf9
    mov al, 6
    out dx, al
leave:
    mov dx, 0xf4
    mov eax, 3
    out dx, eax
    ret
crash:
    lea rax, [rip + nothing]
    lidt [rax]
    ud2
halt:
    cli
    hlt
    jmp halt

gate:
    mov [rdi], ax
    mov word ptr [rdi + 2], 0x10
    mov word ptr [rdi + 4], 0x8e00
    shr rax, 16
    mov [rdi + 6], ax
    shr rax, 16
    mov [rdi + 8], eax
    ret

print:
    lodsb
    test al, al
    jz 10f
    call put
    jmp print
10: ret

put:
    push rdx
    mov dx, 0x3f8
    out dx, al
    pop rdx
    ret

hello: .asciz "TICKER\n"
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
nothing: .word 0
    .quad 0
ticks: .long 0
sum: .long 0
busy: .byte 0
command: .byte 0
.balign 4096
idt: .fill 4096
scratch: .fill 0x10000
