; The kernel file of the stub: a valid ELF64 executable for x86-64 that only halts, with the marker by which
; images are recognised. stub.py holds these bytes; tests/image/test_stub.py assembles this file and compares.

        bits 64
        org 0x400000

        db 0x7f, "ELF", 2, 1, 1, 0      ; 64 bits, little-endian, version 1, System V
        dq 0
        dw 2                            ; executable
        dw 62                           ; x86-64
        dd 1
        dq entry
        dq program - $$
        dq 0                            ; no sections
        dd 0
        dw 64, 56, 1, 64, 0, 0          ; header size, program headers, section headers

program: dd 1, 5                        ; PT_LOAD, readable and executable
        dq 0, $$, $$
        dq end - $$, end - $$
        dq 0x1000

entry:  cli
.stop:  hlt
        jmp .stop
        db "gevulot-orchestrator-stub-kernel: NOT Nanos; the program is not run", 0
end:
