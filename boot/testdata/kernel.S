/*
 * The smallest kernel of the 64-bit boot protocol: it writes what it was given
 * (boot_params, the handoff node, the command line) to COM1 and powers the VM
 * off. boot_test.go puts a setup header in front.
 */
	.code64
	.org 0x200
	mov %rsi, %rbx
	mov $0x3f8, %edx
	lea marker(%rip), %rsi
	mov $6, %ecx
	rep outsb
	mov %rbx, %rsi
	mov $4096, %ecx
	rep outsb
	mov 0x250(%rbx), %rsi
	mov $4096, %ecx
	rep outsb
	mov 0x228(%rbx), %esi
	mov $2048, %ecx
	rep outsb
	/* ICH9 PM1a control (PMBASE 600h): SLP_EN, SLP_TYP of S5 is 0 on QEMU. */
	mov $0x604, %edx
	mov $0x2000, %eax
	outw %ax, %dx
1:	hlt
	jmp 1b
marker:
	.ascii "ENTRY\n"
