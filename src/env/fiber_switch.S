/* SPDX-License-Identifier: MIT */
/* void fiber_switch(struct fiber_context *from, const struct fiber_context *to)
 *
 * Saves what the ABI says a call preserves on the stack of `from`, then its stack pointer and
 * resume address in the context; loads the same of `to` and jumps. A jump instead of a return
 * keeps the CPU's return predictor out of it. struct fiber_context: +0 stack pointer, +8 address.
 *
 * void fiber_entry(void): first resume address of a fiber; the stack pointer is a multiple of 16. */

#if defined(__x86_64__)
    .text
    .globl fiber_switch
    .hidden fiber_switch
    .type fiber_switch, @function
    .p2align 4
fiber_switch:
    .cfi_startproc
    popq %rdx
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $8, %rsp
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    movl (%rsp), %eax
    movzwl 4(%rsp), %ecx
    movq %rsp, (%rdi)
    movq %rdx, 8(%rdi)
    movq (%rsi), %rsp
    movq 8(%rsi), %rdx
    /* Loading the control words is slow and they hardly ever differ. */
    cmpl %eax, (%rsp)
    je 1f
    ldmxcsr (%rsp)
1:
    cmpw %cx, 4(%rsp)
    je 2f
    fldcw 4(%rsp)
2:
    addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    jmpq *%rdx
    .cfi_endproc
    .size fiber_switch, . - fiber_switch

    .globl fiber_entry
    .hidden fiber_entry
    .type fiber_entry, @function
    .p2align 4
fiber_entry:
    .cfi_startproc
    .cfi_undefined rip
    xorl %ebp, %ebp
    call fiber_main
    ud2
    .cfi_endproc
    .size fiber_entry, . - fiber_entry

#elif defined(__aarch64__)
    .text
    .globl fiber_switch
    .hidden fiber_switch
    .type fiber_switch, %function
    .p2align 4
fiber_switch:
    .cfi_startproc
    sub sp, sp, #176
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mrs x9, fpcr
    str x9, [sp, #160]
    mov x10, sp
    str x10, [x0]
    str x30, [x0, #8]
    ldr x10, [x1]
    ldr x11, [x1, #8]
    mov sp, x10
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldr x12, [sp, #160]
    cmp x9, x12
    b.eq 1f
    msr fpcr, x12
1:
    add sp, sp, #176
    br x11
    .cfi_endproc
    .size fiber_switch, . - fiber_switch

    .globl fiber_entry
    .hidden fiber_entry
    .type fiber_entry, %function
    .p2align 4
fiber_entry:
    .cfi_startproc
    .cfi_undefined x30
    mov x29, xzr
    mov x30, xzr
    bl fiber_main
    brk #1
    .cfi_endproc
    .size fiber_entry, . - fiber_entry
#else
#error "fibers need a context switch for this CPU"
#endif

    .section .note.GNU-stack, "", %progbits
