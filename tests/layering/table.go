// Package layering holds the module to its rooms: who may import whom
// (DESIGN, section 2), where unsafe code lives, how long files may be.
package layering

import "path"

// Ranks of the rooms that DESIGN does not number.
const (
	rankWiring = 8
	rankBuild  = 9  // the build side: never linked into the guest image
	rankTests  = 10 // imports anything, is imported by nothing else
)

// room is a row of DESIGN's table. A package belongs to the first row that
// one of its patterns matches (path.Match, without the module's name). It
// may import lower ranks, or what its row names; a narrow room only what its
// row names and the vocabulary.
type room struct {
	rank     int
	packages []string
	imports  []string
	narrow   bool
}

// vocabulary is what narrow rooms may import without being named: address
// types, the state tree, and the contract with the launcher.
var vocabulary = []string{"hcl/abi/x86", "diag/inspect", "boot/handoff"}

// backends are imported beneath hcl, by commands and by tests only.
var backends = []string{"hcl/kvm", "hcl/mshv", "hcl/snp", "hcl/tdx", "hcl/emutee", "hcl/vfio"}

// rooms is the table. The rooms of rank 0 may use the address types of
// hcl/abi/x86, which DESIGN leaves to the standard library.
var rooms = []room{
	{rank: rankTests, packages: []string{"tests/*", "tests/*/*", "tests/*/*/*"}, imports: []string{"*"}},
	{rank: rankWiring, packages: []string{"", "*/cmd/*", "*/*/cmd/*"}, imports: []string{"*"}},

	{rank: 0, packages: []string{"hcl/abi/kvm", "hcl/abi/vfio", "hcl/abi/mshv", "hcl/abi/hv", "hcl/abi/snp", "hcl/abi/tdx", "hcl/abi/x86"}},
	{rank: 0, packages: []string{"vtl/bus", "vtl/irq"}, imports: []string{"hcl/abi/x86"}},
	{rank: 0, packages: []string{"hcl/pci", "translate/blk"}, imports: []string{"hcl/abi/x86"}},
	{rank: 0, packages: []string{"translate/blk/blktest"}, imports: []string{"translate/blk"}},
	{rank: 0, packages: []string{"diag/inspect", "boot/handoff"}, imports: []string{"hcl/abi/x86"}},

	{rank: 1, packages: []string{"hcl/sys"}, imports: []string{"hcl/abi/*"}},
	{rank: 2, packages: []string{"hcl"}, imports: []string{"hcl/abi/*"}},
	{rank: 3, packages: []string{"hcl/kvm", "hcl/mshv", "hcl/snp", "hcl/tdx", "hcl/vfio"}, imports: []string{"hcl", "hcl/sys", "hcl/abi/*", "hcl/pci", "hcl/snp/vmsa", "hcl/tdx/l2", "hcl/leaves", "hcl/private"}},
	{rank: 3, packages: []string{"hcl/emutee", "hcl/hcltest"}, imports: []string{"hcl", "hcl/abi/*", "hcl/snp/vmsa"}},
	{rank: 3, packages: []string{"hcl/snp/vmsa"}, imports: []string{"hcl", "hcl/abi/*"}},
	{rank: 3, packages: []string{"hcl/leaves"}, imports: []string{"hcl"}},
	{rank: 3, packages: []string{"hcl/private"}, imports: []string{"hcl/abi/*"}},
	{rank: 3, packages: []string{"hcl/tdx/l2"}, imports: []string{"hcl", "hcl/abi/*"}},
	{rank: 3, packages: []string{"hcl/emutee/tdxmodule"}, imports: []string{"hcl", "hcl/abi/*", "hcl/tdx/l2"}},
	{rank: 3, packages: []string{"hcl/emutee/evidence"}, imports: []string{"hcl", "hcl/abi/*"}},
	{rank: 3, packages: []string{"hcl/pci/pcitest"}, imports: []string{"hcl/pci"}},

	{rank: 4, packages: []string{"vtl/guestmem"}, imports: []string{"hcl"}},
	{rank: 4, packages: []string{"vtl/apic", "vtl/x86emu", "vtl/cpuid", "vtl/msr", "vtl/hv", "vtl/pci"}, imports: []string{"vtl/bus", "vtl/irq", "vtl/guestmem", "hcl/abi/*"}},
	{rank: 5, packages: []string{"vtl"}, imports: []string{"hcl", "vtl/*"}},
	{rank: 5, packages: []string{"vtpm"}, imports: []string{"vtpm/wire", "vtpm/vtpmtest"}, narrow: true},
	{rank: 0, packages: []string{"vtpm/wire"}},
	{rank: 5, packages: []string{"vtpm/engine"}, narrow: true},
	{
		rank: 5, packages: []string{"vtpm/crb", "vtpm/tis", "vtpm/front", "vtpm/ppi", "vtpm/nv", "vtpm/eventlog", "vtpm/identity"},
		imports: []string{"hcl", "vtl/bus", "vtl/irq", "vtl/guestmem", "vtpm", "vtpm/*", "vtpm/*/*", "diag/attest/claims"},
	},
	{
		rank: 5, packages: []string{"vtpm/vtpmtest", "vtpm/vtpmtest/swtpm", "vtpm/front/fronttest", "vtpm/identity/identitytest"},
		imports: []string{"vtpm", "vtpm/*", "vtpm/vtpmtest/*", "vtl/irq", "paravisor/worker"}, narrow: true,
	},
	{rank: 1, packages: []string{"translate/meter"}, narrow: true},
	{rank: 1, packages: []string{"translate/tap"}, imports: []string{"translate/blk"}, narrow: true},
	{rank: 5, packages: []string{"translate/nvme"}, imports: []string{"translate/blk", "translate/meter", "translate/tap", "hcl/pci"}, narrow: true},
	{rank: 5, packages: []string{"translate/nvme/nvmetest"}, imports: []string{"translate/nvme", "translate/blk", "hcl/pci", "hcl/sys"}, narrow: true},
	{rank: 5, packages: []string{"translate/scsi"}, imports: []string{"translate/blk", "translate/meter", "translate/tap"}, narrow: true},
	{
		rank: 5, packages: []string{"translate/vmbus", "translate/storvsp", "translate/virtio", "translate/virtioscsi"},
		imports: []string{"translate/*", "vtl/bus", "vtl/irq", "vtl/guestmem", "vtl/hv", "vtl/pci"},
	},

	{rank: 5, packages: []string{"translate/vmbus/vmbustest"}, imports: []string{"translate/vmbus", "vtl/guestmem", "hcl/sys"}, narrow: true},
	{rank: 5, packages: []string{"translate/virtio/virtiotest"}, imports: []string{"vtl/pci", "vtl/guestmem"}, narrow: true},
	{rank: 6, packages: []string{"paravisor/chipset/*"}, imports: []string{"vtl/bus", "vtl/irq", "paravisor/chipset/isa"}, narrow: true},
	{
		rank: 6,
		packages: []string{
			"paravisor/config", "paravisor/acpi", "paravisor/guestload", "paravisor/worker", "paravisor/gueststate", "paravisor/servicing",
			"paravisor/config/configpb", "paravisor/fwcfg", "paravisor/smbios", "paravisor/measure", "paravisor/coredump", "paravisor/gdb",
		},
		imports: []string{"paravisor/config/configpb"},
	},
	{rank: 0, packages: []string{"diag/attest/claims"}},
	{rank: 5, packages: []string{"diag/owner"}, narrow: true},
	{rank: 6, packages: []string{"diag/owner/keyfile"}, narrow: true},
	{rank: 6, packages: []string{"paravisor/keyrelease"}, imports: []string{"diag/attest/claims"}, narrow: true},
	{rank: 6, packages: []string{"diag/keyserver"}, imports: []string{"diag/attest", "diag/attest/claims", "paravisor/keyrelease"}, narrow: true},
	{rank: 0, packages: []string{"diag/pcapng"}},
	{rank: 6, packages: []string{"diag/capture"}, imports: []string{"diag/pcapng", "translate/tap", "translate/meter"}, narrow: true},
	{rank: 6, packages: []string{"diag/attest"}, imports: []string{"diag/*", "diag/attest/claims"}, narrow: true},
	{rank: 1, packages: []string{"diag/journal", "diag/kmsg", "diag/metrics"}},
	{rank: 1, packages: []string{"diag/session", "diag/profile", "diag/console"}},
	{rank: 2, packages: []string{"diag/coredump"}, imports: []string{"hcl/sys"}, narrow: true},
	{rank: 6, packages: []string{"diag/diagpb", "diag/frame", "diag/vsock", "diag/server", "diag/client"}, imports: []string{"diag/*"}},
	{rank: 7, packages: []string{"initramfs/pvinit"}, imports: []string{"hcl/sys"}, narrow: true},
	{rank: 7, packages: []string{"paravisor"}, imports: []string{"paravisor/*", "paravisor/chipset/*"}},

	{rank: rankBuild, packages: []string{"kernelcfg", "kernelcfg/deb"}, imports: []string{"kernelcfg/deb"}, narrow: true},
	{rank: rankBuild, packages: []string{"initramfs"}, imports: []string{"diag/owner"}, narrow: true},
	{rank: rankBuild, packages: []string{"boot/layout", "boot/igvm", "boot/measure", "boot/shim"}, imports: []string{"boot/layout", "boot/igvm", "boot/shim", "hcl", "hcl/abi/*", "hcl/snp/vmsa"}, narrow: true},
	{rank: rankBuild, packages: []string{"boot"}, imports: []string{"boot/*", "hcl/abi/*", "diag/owner", "diag/owner/keyfile"}, narrow: true},
	{rank: rankBuild, packages: []string{"boot/qemu", "boot/qemu/vsock"}, imports: []string{"boot/qemu/vsock"}, narrow: true},
}

// find returns the row of a package, or nil.
func find(pkg string) *room {
	for i := range rooms {
		if matches(rooms[i].packages, pkg) {
			return &rooms[i]
		}
	}
	return nil
}

// allowed tells whether a package of row r may import a package.
func (r *room) allowed(imported string) bool {
	to := find(imported)
	switch {
	case to == nil || to.rank == rankWiring || to.rank == rankTests && r.rank != rankTests:
		return false
	case matches(r.imports, "*"), matches(r.imports, imported), matches(vocabulary, imported) && r.rank > 0:
		return true
	case r.narrow || to.rank == rankBuild || matches(backends, imported):
		return false
	}
	return to.rank < r.rank
}

// matches tells whether one of the patterns matches a package.
func matches(patterns []string, pkg string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, pkg); err == nil && ok {
			return true
		}
	}
	return false
}
