# A guest that works with its disk, for tests of disks in pairs: on every fourth tick of 4 ms it writes block n mod 128 full
# of n, flushes, reads the four blocks from 4 * n mod 128 on, and writes a line on its console: n, and a sum over the time
# stamp counter and all that it has read, so that two histories of one guest cannot agree by accident. A line on the console
# says that the write of that number is on the disk. Blocks have 4 KiB. A character q on the serial port powers off.
.intel_syntax noprefix
.code64
.set DESCRIPTORS, 0x200000
.set AVAILABLE, 0x201000
.set USED, 0x202000
.set HEADER, 0x203000
.set STATUS, 0x203100
.set WRITTEN, 0x210000
.set READ, 0x220000
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
2:  call open

main:
    sti
    hlt
    mov eax, [rip + ticks]
    sub eax, [rip + served]
    cmp eax, 4
    jb main
    mov eax, [rip + ticks]
    mov [rip + served], eax
    inc dword ptr [rip + number]

    mov eax, [rip + number]
    mov edi, WRITTEN
    mov ecx, 1024
    rep stosd
    mov eax, [rip + number]
    and eax, 127
    shl eax, 3                      # sectors
    mov edx, 1                      # VIRTIO_BLK_T_OUT
    mov ebx, WRITTEN
    mov esi, 4096
    call request
    mov edx, 4                      # VIRTIO_BLK_T_FLUSH
    xor eax, eax
    xor esi, esi
    call request
    mov eax, [rip + number]
    shl eax, 2
    and eax, 127
    shl eax, 3
    xor edx, edx                    # VIRTIO_BLK_T_IN
    mov ebx, READ
    mov esi, 4 * 4096
    call request
    mov esi, READ
    mov edi, 4096
3:  lodsd
    call mix
    dec edi
    jnz 3b
    rdtsc
    call mix
    mov eax, [rip + number]
    call hex
    mov al, ' '
    call put
    mov eax, [rip + sum]
    call hex
    mov al, 10
    call put
    jmp main

# Finds the block device on bus 0 and gives it one queue of eight descriptors, without interrupts.
open:
    mov ebx, 0x80000000
4:  mov eax, ebx
    call configuration
    cmp eax, 0x10421af4
    je 5f
    add ebx, 0x800
    jmp 4b
5:  lea eax, [rbx + 4]
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    mov ax, 6                       # memory, bus master
    out dx, ax
    lea eax, [rbx + 0x10]
    call configuration
    and eax, 0xfffffff0
    mov ebp, eax
    mov byte ptr [rbp + 20], 0
    mov byte ptr [rbp + 20], 3
    mov dword ptr [rbp + 8], 1
    mov dword ptr [rbp + 12], 1     # VIRTIO_F_VERSION_1
    mov dword ptr [rbp + 8], 0
    mov dword ptr [rbp + 12], 0x200 # VIRTIO_BLK_F_FLUSH
    mov byte ptr [rbp + 20], 11
    mov word ptr [rbp + 22], 0
    mov word ptr [rbp + 24], 8
    mov dword ptr [rbp + 32], DESCRIPTORS
    mov dword ptr [rbp + 36], 0
    mov dword ptr [rbp + 40], AVAILABLE
    mov dword ptr [rbp + 44], 0
    mov dword ptr [rbp + 48], USED
    mov dword ptr [rbp + 52], 0
    mov word ptr [rbp + 28], 1
    mov byte ptr [rbp + 20], 15
    mov word ptr ds:[AVAILABLE], 1  # no interrupts
    ret

configuration:
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    in eax, dx
    ret

# EDX: type, EAX: sector, EBX and ESI: data and its length, if any. Waits for the answer, and tries again what fails.
request:
    mov ds:[HEADER], edx
    mov ds:[HEADER + 8], eax
    mov byte ptr ds:[STATUS], 0xff
    mov edi, DESCRIPTORS
    mov qword ptr [rdi], HEADER
    mov dword ptr [rdi + 8], 16
    mov dword ptr [rdi + 12], 0x20001  # next: 2
    mov qword ptr [rdi + 32], STATUS
    mov dword ptr [rdi + 40], 1
    mov dword ptr [rdi + 44], 2     # device writes
    test esi, esi
    jz 6f
    mov dword ptr [rdi + 12], 0x10001  # next: 1
    mov [rdi + 16], rbx
    mov [rdi + 24], esi
    mov dword ptr [rdi + 28], 0x20001
    test edx, edx
    jnz 6f
    mov dword ptr [rdi + 28], 0x20003
6:  movzx ecx, word ptr ds:[AVAILABLE + 2]
    mov edi, ecx
    and edi, 7
    mov word ptr [AVAILABLE + 4 + rdi * 2], 0
    inc ecx
    mov ds:[AVAILABLE + 2], cx
    mov word ptr [rbp + 0x3000], 0
7:  sti
    hlt
    cmp ds:[USED + 2], cx
    jne 7b
    cmp byte ptr ds:[STATUS], 0
    jne request
    ret

tick:
    push rax
    inc dword ptr [rip + ticks]
    mov al, 0x20
    out 0x20, al
    pop rax
    iretq

received:
    push rax
    push rdx
    mov dx, 0x3f8
    in al, dx
    cmp al, 'q'
    je off
    mov al, 0x20
    out 0x20, al
    pop rdx
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
8:  rol eax, 4
    push rax
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe 9f
    add al, 'a' - '0' - 10
9:  call put
    pop rax
    loop 8b
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
served: .long 0
number: .long 0
sum: .long 0
.balign 4096
idt: .fill 4096
