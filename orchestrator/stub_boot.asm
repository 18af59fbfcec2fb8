; The boot image of the stub kernel: says that nothing was run, and stops the machine.
; stub.py holds these bytes; tests/image/test_stub.py assembles this file (nasm -f bin) and compares.

COM1            equ 0x3f8
DEBUG_EXIT      equ 0x501               ; QEMU's isa-debug-exit, where Nanos expects it
DEBUG_VALUE     equ 0x5a                ; QEMU's exit status is (value << 1) | 1 = 181
PM1A_CONTROL    equ 0x604               ; where SeaBIOS puts it on QEMU's pc and q35
STAGE2_SIZE     equ 512
REGION_FILESYSTEM equ 12

        bits 16
        org 0x7c00

        cli
        cld
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        jmp 0:serial

serial: mov dx, COM1 + 1                ; no interrupts
        xor al, al
        out dx, al
        mov dx, COM1 + 3                ; divisor latch on
        mov al, 0x80
        out dx, al
        mov dx, COM1                    ; divisor 1: 115200 baud
        mov al, 1
        out dx, al
        inc dx
        xor al, al
        out dx, al
        mov dx, COM1 + 3                ; 8 bits, no parity, 1 stop bit; latch off
        mov al, 3
        out dx, al
        dec dx                          ; COM1 + 2: FIFO on and empty
        mov al, 7
        out dx, al
        mov dx, COM1 + 4                ; DTR and RTS
        mov al, 3
        out dx, al

        mov si, message
next:   lodsb
        test al, al
        jz drain
        mov ah, al
        mov bl, 0x20                    ; holding register empty
        call wait_for
        mov al, ah
        mov dx, COM1
        out dx, al
        jmp next

drain:  mov bl, 0x40                    ; transmitter idle: the line is out
        call wait_for
        mov dx, DEBUG_EXIT
        mov al, DEBUG_VALUE
        out dx, al
        mov dx, PM1A_CONTROL            ; no such device: power off by ACPI
        mov ax, 0x2000
        out dx, ax
stop:   hlt
        jmp stop

wait_for:                               ; until a bit of BL is set in the line status; not for ever,
        xor cx, cx                      ; as a machine without COM1 must stop too
        mov dx, COM1 + 5
.again: in al, dx
        test al, bl
        loopz .again
        ret

message: db 13, 10, "gevulot-orchestrator stub kernel: NOT Nanos; the program was not run", 13, 10, 0

        times 426 - ($ - $$) db 0
region: dq 0x8000                       ; base of stage 2 in memory
        dq STAGE2_SIZE
        dd REGION_FILESYSTEM
        times 64 db 0                   ; partition table, filled in by the writer
        dw 0xaa55

stage2: db "gevulot-orchestrator-stub-kernel: this is no second stage; see the boot sector", 0
        times STAGE2_SIZE - ($ - stage2) db 0
