/*
 * Stands for the shim in a test of the entries of SNP and TDX. entry32 is where
 * QEMU's PVH loader jumps to: it makes the state in which those platforms begin and
 * enters the page under test. entry64 is where that page must arrive: it writes the
 * registers and some page table entries to COM1 and powers the VM off.
 */
	.code64
entry64:
	push %rsp
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	mov %cr0, %rax
	push %rax
	mov %cr3, %rbx
	push %rbx
	mov %cr4, %rax
	push %rax
	mov $0xc0000080, %ecx /* EFER */
	rdmsr
	push %rax
	xor %eax, %eax
	mov %cs, %ax
	push %rax
	mov %ds, %ax
	push %rax
	mov %ss, %ax
	push %rax
	push $0 /* ten bytes follow */
	push $0
	sgdt (%rsp)
	push (%rbx)
	push 0x1000(%rbx)
	push 0x5ff8(%rbx)
	push 0x8(%rbx)
	mov $0x3f8, %edx
	lea marker(%rip), %rsi
	mov $6, %ecx
	rep outsb
	mov %rsp, %rsi
	mov $29 * 8, %ecx
	rep outsb
	/* ICH9 PM1a control (PMBASE 600h): SLP_EN, SLP_TYP of S5 is 0 on QEMU. */
	mov $0x604, %edx
	mov $0x2000, %eax
	outw %ax, %dx
1:	hlt
	jmp 1b
marker:
	.ascii "ENTRY\n"

	.org 0x200
	.code32
entry32:
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax /* LME */
	wrmsr
	mov %cr4, %eax
	or $0x40, %eax /* MCE */
	mov %eax, %cr4
	/* The host has some say in these. */
	mov $0xdeadbeef, %ebx
	mov %ebx, %ecx
	mov %ebx, %edx
	mov %ebx, %ebp
	mov %ebx, %edi
	mov %ebx, %esp
	xor %esi, %esi
	mov 0x1012fc, %eax /* page */
	jmp *%eax
	.org 0x2fc
page:	.long 0 /* the test fills it in */
