; Starts the program of a rehearsal under the supervisor's filter. launcher.py appends what is at `parameters` and
; holds these bytes; tests/run/sandbox/test_launcher.py assembles this file (nasm -f bin) and compares.
;
; Two processes, without a capability. The first has no filter: it waits for the second, tells its wait status, and
; stays until it hears a byte, so that what the kernel counted (cgroup) can still be read. The second becomes the
; program, and so never has PID 1, whose signals the kernel ignores (abort would end as a segmentation fault).
;
; With an argument, descriptor 3 is the supervisor's socket; without, it connects to the one beside it.
;
; Messages to the supervisor (SOCK_SEQPACKET): 'L' with the listener's descriptor; 'F', step, -errno; 'S', wait status;
; each three 32-bit words.

BASE            equ 0x400000

        bits 64
        org BASE

        db 0x7f, "ELF", 2, 1, 1, 0
        dq 0
        dw 2, 62                        ; ET_EXEC, x86-64
        dd 1
        dq start, 64, 0
        dd 0
        dw 64, 56, 1, 64, 0, 0
        dd 1, 7                         ; PT_LOAD, readable, writable, executable
        dq 0, BASE, BASE, 0, 0, 0x1000  ; the two sizes are filled in by launcher.py

start:  mov byte [step], 1
        mov r12d, 3
        cmp qword [rsp], 1              ; argc
        jne inherited
        mov eax, 41                     ; socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        mov edi, 1
        mov esi, 5 | 0x80000
        xor edx, edx
        call checked
        mov r12, rax
        mov eax, 42                     ; connect
        mov rdi, r12
        mov esi, address
        mov edx, address_end - address
        call checked
        jmp powers
inherited:
        mov eax, 72                     ; fcntl(3, F_SETFD, FD_CLOEXEC)
        mov edi, r12d
        mov esi, 2
        mov edx, 1
        call checked
        inc byte [step]

; In a container there are none to drop, and the first two calls fail; the bounding set is looked at afterwards.
powers: xor r13d, r13d
.drop:  mov eax, 157                    ; prctl(PR_CAPBSET_DROP, each)
        mov edi, 24
        mov esi, r13d
        syscall
        inc r13d
        cmp r13d, 64
        jb .drop
        mov eax, 157                    ; prctl(PR_SET_SECUREBITS): root gains nothing by exec, all of it locked
        mov edi, 28
        mov esi, 0xef
        syscall
        mov eax, 157                    ; prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        mov edi, 47
        mov esi, 4
        xor edx, edx
        xor r10d, r10d
        xor r8d, r8d
        syscall
        mov eax, 126                    ; capset(version 3, none)
        mov edi, capabilities
        mov esi, none
        call checked
        xor r13d, r13d
.look:  mov eax, 157                    ; prctl(PR_CAPBSET_READ, each): 1 where it is still there
        mov edi, 23
        mov esi, r13d
        syscall
        cmp eax, 1
        mov eax, -1                     ; EPERM
        je failed
        inc r13d
        cmp r13d, 64
        jb .look

        mov eax, 57                     ; fork
        call checked
        test rax, rax
        jz child

        mov r13, rax
        mov eax, 157                    ; prctl(PR_SET_DUMPABLE, 0): the program may not look into this process
        mov edi, 4
        xor esi, esi
        syscall
        mov rdi, r13                    ; wait4(child, &status, 0, 0)
        mov eax, 61
        mov esi, status + 4
        xor edx, edx
        xor r10d, r10d
        call checked
        mov eax, 1                      ; write
        mov rdi, r12
        mov esi, status
        mov edx, 12
        syscall
        xor eax, eax                    ; read: the supervisor has seen enough
        mov rdi, r12
        mov esi, byte_in
        mov edx, 1
        syscall
        xor edi, edi
        jmp leave

child:
        mov r13, [parameters + 48]      ; limits: which, soft, hard; -1 ends them
.limit: mov rdi, [r13]
        test rdi, rdi
        js .limited
        mov eax, 160                    ; setrlimit; it fails where the limit is lower already
        lea rsi, [r13 + 8]
        syscall
        add r13, 24
        jmp .limit
.limited:
        mov eax, 157                    ; prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        mov edi, 38
        mov esi, 1
        xor edx, edx
        xor r10d, r10d
        xor r8d, r8d
        call checked
        mov eax, 317                    ; seccomp(SET_MODE_FILTER, NEW_LISTENER, program)
        mov edi, 1
        mov esi, 8
        mov edx, parameters
        call checked
        mov [listener], eax
        mov eax, 46                     ; sendmsg
        mov rdi, r12
        mov esi, sent
        xor edx, edx
        call checked
        mov eax, 47                     ; recvmsg(MSG_CMSG_CLOEXEC): the go, with stdout and stderr
        mov rdi, r12
        mov esi, received
        mov edx, 0x40000000
        call checked
        mov eax, 33                     ; dup2
        mov edi, [descriptors]
        mov esi, 1
        call checked
        mov eax, 33
        mov edi, [descriptors + 4]
        mov esi, 2
        call checked
        mov eax, 80                     ; chdir
        mov rdi, [parameters + 40]
        call checked
        mov eax, 59                     ; execve
        mov rdi, [parameters + 16]
        mov rsi, [parameters + 24]
        mov rdx, [parameters + 32]
        call checked

checked:
        syscall
        inc byte [step]
        test rax, rax
        js failed
        ret
failed: mov [failure + 8], eax
        mov eax, 1                      ; write
        mov rdi, r12
        mov esi, failure
        mov edx, 12
        syscall
        mov edi, 125
leave:  mov eax, 231                    ; exit_group
        syscall

        align 8
sent:   dq 0, 0, sent_io, 1, sent_control, 24, 0
sent_io: dq hello, 12
sent_control: dq 20
        dd 1, 1                         ; SOL_SOCKET, SCM_RIGHTS
listener: dd 0, 0
received: dq 0, 0, received_io, 1, received_control, 24, 0
received_io: dq byte_in, 1
received_control: dq 0
        dd 0, 0
descriptors: dd 0, 0
hello:  dd 'L', 0, 0
failure: dd 'F'
step:   dd 0, 0
status: dd 'S', 0, 0
byte_in: dd 0
capabilities: dd 0x20080522, 0
none:   dd 0, 0, 0, 0, 0, 0
address: dw 1
        db "/.rehearse/socket/socket", 0
address_end:
        align 8
parameters:
; +0 number of filter instructions, +8 their address, +16 path, +24 argv, +32 envp, +40 working directory, +48 limits
