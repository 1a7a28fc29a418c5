/*
 * The parts of the shim that touch hardware: COM1 for the one line of a refusal,
 * fw_cfg for the VP count, and the jump into the kernel.
 */
#include "shim.h"

#define COM1 0x3f8
#define COM1_LSR (COM1 + 5)
#define LSR_THRE 0x20 /* transmitter holding register empty */
#define SPIN_LIMIT 1000000 /* without a UART the refusal is silent, not endless */

#define FW_CFG_SELECT 0x510 /* QEMU docs/specs/fw_cfg */
#define FW_CFG_DATA 0x511
#define FW_CFG_SIGNATURE 0
#define FW_CFG_NB_CPUS 5

#define KERNEL_ENTRY64 0x200 /* Documentation/arch/x86/boot.rst, 64-bit boot protocol */

void *memset(void *d, int v, u64 n)
{
	u8 *p = d;

	while (n--)
		*p++ = v;
	return d;
}

void *memcpy(void *d, const void *s, u64 n)
{
	u8 *p = d;
	const u8 *q = s;

	while (n--)
		*p++ = *q++;
	return d;
}

static inline void outb(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline void outw(u16 port, u16 v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

/* Says whether QEMU emulates the processor: the signature "TCGTCGTCGTCG" in the
 * first leaf of hypervisors. */
static u32 emulated(void)
{
	u32 a = 0x40000000, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return b == 0x54474354 && c == 0x43544743 && d == 0x47435447;
}

static void print(const char *s)
{
	for (; *s; s++) {
		u32 spin = SPIN_LIMIT;

		while (!(inb(COM1_LSR) & LSR_THRE) && spin--)
			;
		outb(COM1, *s);
	}
}

static void __attribute__((noreturn)) refuse(enum reason why)
{
	print("keel: shim: ");
	print(reason_text[why]);
	print("\r\n");
	for (;;)
		__asm__ volatile("cli; hlt");
}

/* Entered by entry.S with the registers that the VP context sets. */
void __attribute__((noreturn)) shim_main(const struct image *m)
{
	struct pages p = {
		.image = m,
		.map = (const struct map_entry *)m->param_map,
		.vps = (const u32 *)m->param_vp,
		.host = (const struct host_page *)m->param_host,
		.cmdline = (const char *)m->cmdline,
		.cmdline_out = (char *)m->cmdline_out,
		.boot_params = (u8 *)m->boot_params,
		.handoff = (struct handoff *)m->handoff,
		.emulated = emulated(),
	};
	u64 rsdp = p.host->rsdp;
	enum reason why;

	if (rsdp_placed(m, rsdp) && rsdp_ok((const u8 *)rsdp))
		p.rsdp = rsdp;
	why = shim_build(&p);
	if (why)
		refuse(why);
	__asm__ volatile("jmp *%0" : : "r"(m->kernel + KERNEL_ENTRY64), "S"(m->boot_params) : "memory");
	__builtin_unreachable();
}

static u8 fw_cfg_byte(void)
{
	return inb(FW_CFG_DATA);
}

/* Says whether the device at the fw_cfg ports is one. */
static int fw_cfg_present(void)
{
	outw(FW_CFG_SELECT, FW_CFG_SIGNATURE);
	return fw_cfg_byte() == 'Q' && fw_cfg_byte() == 'E' && fw_cfg_byte() == 'M' && fw_cfg_byte() == 'U';
}

/* Fills the parameter areas as an IGVM loader would. What is missing stays
 * zero, and shim_main refuses it by name. */
void pvh_host(const struct pvh_start *s, const struct image *m)
{
	struct host_page *host = (struct host_page *)m->param_host;
	u32 *vps = (u32 *)m->param_vp;
	const u64 limit = 1UL << 32; /* all that is mapped */

	memset((void *)m->param_map, 0, PAGE_SIZE);
	memset(vps, 0, PAGE_SIZE);
	memset(host, 0, PAGE_SIZE);
	if (fw_cfg_present()) {
		outw(FW_CFG_SELECT, FW_CFG_NB_CPUS);
		*vps = fw_cfg_byte();
		*vps |= fw_cfg_byte() << 8;
	}
	if (s->magic != PVH_MAGIC)
		return;
	host->rsdp = s->rsdp;
	if (s->cmdline && s->cmdline < limit - MAX_CMDLINE)
		pvh_cmdline(host->cmdline, (const char *)s->cmdline);
	if (s->version >= 1 && s->memmap < limit &&
	    s->memmap_entries <= (limit - s->memmap) / sizeof(struct pvh_range))
		pvh_map((struct map_entry *)m->param_map, (const struct pvh_range *)s->memmap, s->memmap_entries);
}
