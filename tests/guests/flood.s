# A guest that sends as fast as it can: a queue of 256 of the longest packets, and again, and again, all of the same
# memory.

.intel_syntax noprefix
.code64

.set DESCRIPTORS, 0x200000
.set AVAILABLE, 0x201000
.set USED, 0x202000
.set PACKET, 0x400000

.org 0x200                              # entry: 64-bit, RSI is the boot parameters
entry:
    mov esp, 0x90000
    call open
    mov rdi, DESCRIPTORS                # every entry of the ring says: this one
    mov qword ptr [rdi], PACKET
    mov dword ptr [rdi + 8], 65593 + 12
    mov dword ptr [rdi + 12], 0
    mov edi, AVAILABLE
1:  add word ptr [rdi + 2], 256
    mov word ptr [rbp + 0x3004], 1      # the bell of the transmit queue
    jmp 1b

open:                                   # RBP: the registers of the device [virtio 4.1.4.3]
    mov ebx, 0x80000000
2:  mov eax, ebx
    call configuration
    cmp eax, 0x10411af4
    je 3f
    add ebx, 0x800
    jmp 2b
3:  lea eax, [rbx + 4]
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    mov ax, 6                           # memory, bus master
    out dx, ax
    lea eax, [rbx + 0x10]
    call configuration
    and eax, 0xfffffff0
    mov ebp, eax
    mov byte ptr [rbp + 20], 0
    mov byte ptr [rbp + 20], 3          # ACKNOWLEDGE, DRIVER
    mov dword ptr [rbp + 8], 1
    mov dword ptr [rbp + 12], 1         # VIRTIO_F_VERSION_1
    mov byte ptr [rbp + 20], 11         # FEATURES_OK
    mov word ptr [rbp + 22], 1          # the transmit queue
    mov word ptr [rbp + 24], 256
    mov dword ptr [rbp + 32], DESCRIPTORS
    mov dword ptr [rbp + 36], 0
    mov dword ptr [rbp + 40], AVAILABLE
    mov dword ptr [rbp + 44], 0
    mov dword ptr [rbp + 48], USED
    mov dword ptr [rbp + 52], 0
    mov word ptr [rbp + 28], 1
    mov byte ptr [rbp + 20], 15         # DRIVER_OK
    mov word ptr ds:[AVAILABLE], 1      # no interrupts
    ret

configuration:                          # EAX of the configuration space
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    in eax, dx
    ret
