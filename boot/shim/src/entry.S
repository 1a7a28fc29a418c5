/*
 * The two entries of the image. igvm_entry is where the VP context points: long
 * mode, identity mapping, RSI = the image page, a stack. pvh_entry is where
 * QEMU's -kernel jumps to (Xen PVH boot: 32-bit protected mode, paging off, EBX
 * = start info); it plays the IGVM host and then enters igvm_entry with the
 * registers of the VP context.
 */
#include "shim.h"

#define CR0_STATE 0x80010031 /* PG WP NE ET PE, as in the VP context */
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100

	.section .text.entry, "ax"
	.code64
	.globl igvm_entry
igvm_entry:
	cld
	cli
	mov %rsi, %rdi
	call shim_main

	.code32
	.globl pvh_entry
pvh_entry:
	cld
	cli
	mov (IMAGE_GPA + IMAGE_STACK_TOP), %esp
	/* The data segment is flat, so the image's GDT can be loaded from here. */
	sub $8, %esp
	movw $(GDT_BYTES - 1), (%esp)
	movl $(IMAGE_GPA + IMAGE_GDT), 2(%esp)
	lgdt (%esp)

	mov $CR4_PAE, %eax
	mov %eax, %cr4
	mov (IMAGE_GPA + IMAGE_PAGE_TABLES), %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	rdmsr
	or $EFER_LME, %eax
	wrmsr
	mov $CR0_STATE, %eax
	mov %eax, %cr0
	ljmp $SEL_CODE, $pvh_long

	.code64
pvh_long:
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %eax, %fs
	mov %eax, %gs
	mov (IMAGE_GPA + IMAGE_STACK_TOP), %rsp
	mov %ebx, %edi
	mov $IMAGE_GPA, %esi
	call pvh_host

	/* Leave nothing behind that an IGVM loader would not have set. */
	xor %eax, %eax
	xor %ecx, %ecx
	xor %edx, %edx
	xor %ebx, %ebx
	xor %ebp, %ebp
	xor %edi, %edi
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d
	xor %r11d, %r11d
	xor %r12d, %r12d
	xor %r13d, %r13d
	xor %r14d, %r14d
	xor %r15d, %r15d
	mov (IMAGE_GPA + IMAGE_STACK_TOP), %rsp
	mov $IMAGE_GPA, %esi
	jmp igvm_entry

	.section .note.GNU-stack, "", @progbits
