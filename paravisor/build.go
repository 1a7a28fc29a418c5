package paravisor

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"keel/diag/inspect"
	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/paravisor/acpi"
	"keel/paravisor/chipset/debugport"
	"keel/paravisor/chipset/i8042"
	"keel/paravisor/chipset/pcihost"
	"keel/paravisor/chipset/pic"
	"keel/paravisor/chipset/pit"
	"keel/paravisor/chipset/pm"
	"keel/paravisor/chipset/reset"
	"keel/paravisor/chipset/rtc"
	"keel/paravisor/chipset/serial"
	"keel/paravisor/config"
	"keel/paravisor/guestload"
	"keel/paravisor/measure"
	"keel/paravisor/smbios"
	"keel/vtl"
	"keel/vtl/apic"
	"keel/vtl/bus"
	"keel/vtl/cpuid"
	"keel/vtl/guestmem"
	"keel/vtl/hv"
	"keel/vtl/irq"
	"keel/vtpm/eventlog"
	"keel/vtpm/ppi"
)

// machine is the guest with the chips that the lifecycle talks to.
type machine struct {
	guest      *vtl.Guest
	memory     *guestmem.Memory
	ports      bus.Ports
	mmio       bus.Memory
	com1, com2 *serial.UART
	pm         *pm.PM
	pci        *pcihost.Host
	disks      *disks
	tpm        *tpm           // nil: the guest has none
	resetters  []bus.Resetter // every chip
	tables     []acpi.Blob    // written before each start
	rsdp       x86.GPA
	// tellsFrequency says that the guest learns from CPUID how fast its clock is.
	tellsFrequency bool
	oracle         bool         // what Keel executes is compared
	isolation      inspect.Node // nil where there is none
	pciHigh        uint64       // bytes of PCI's window above RAM
	gate           *hcl.Gate    // to the host, nil without strict mode
}

// build composes the machine on a partition.
func build(partition, oracle hcl.Partition, memory *guestmem.Memory, c *config.Config, tpm *tpm, trace *exitTrace, log *slog.Logger) (*machine, error) {
	if oracle != nil {
		if err := memory.Map(oracle); err != nil {
			return nil, buildError(err)
		}
	}
	if err := memory.Map(partition); err != nil {
		return nil, buildError(err)
	}
	supported, err := partition.SupportedCPUID()
	if err != nil {
		return nil, buildError(err)
	}
	m := &machine{memory: memory, tellsFrequency: cpuid.TellsFrequency(supported), disks: &disks{log: log}, tpm: tpm, oracle: oracle != nil, pciHigh: pciHighSize}
	if c.Isolation != config.IsolationNone {
		m.isolation, _ = partition.(inspect.Node)
		m.pciHigh = pciHighIsolated
	}
	var pics *pic.PIC
	var observe func(int, hcl.Exit)
	if trace != nil {
		observe = trace.observe
	}
	var hyperV *vtl.HyperV
	if c.Has(config.FrontStorVSC) {
		hyperV = &vtl.HyperV{RAM: memory, Crash: func(crash hv.Crash) {
			log.Error("the guest reports that it crashed", "parameters", fmt.Sprintf("%#x", crash.P), "message", string(crash.Message))
		}}
	}
	m.guest, err = vtl.New(vtl.Config{
		Partition: partition, VPs: c.VPs, Ports: &m.ports, Memory: &m.mmio,
		RAM: memory, Oracle: oracle,
		ExtINT: func() irq.Vector { return pics.Acknowledge() },
		// Firmware leaves all memory cacheable.
		Firmware: func(vp hcl.VP) error {
			return vp.SetMSR(x86.IA32_MTRR_DEF_TYPE, x86.MTRR_DEF_TYPE_ENABLED_WB)
		},
		Observe: observe,
		HyperV:  hyperV,
	})
	if err != nil {
		return nil, buildError(err)
	}
	pics = pic.New(irq.LineFunc(m.guest.APICs().SetLINT0))
	ioapic := apic.NewIOAPIC(m.guest.APICs())
	// An ISA interrupt is one wire to both controllers; the guest masks one.
	isa := func(n int) irq.Line {
		gsi := irq.GSI(n)
		if n == irqTimer {
			gsi = gsiTimer
		}
		return irq.Fan{pics.Line(n), ioapic.Line(gsi)}
	}
	if err := m.connect(pics, ioapic, isa); err != nil {
		return nil, buildError(err)
	}
	if err := m.connectDisks(c); err != nil {
		return nil, buildError(err)
	}
	if err := m.describe(c); err != nil {
		return nil, buildError(err)
	}
	return m, nil
}

// connect makes the chips and gives them their addresses.
func (m *machine) connect(pics *pic.PIC, ioapic *apic.IOAPIC, isa func(int) irq.Line) error {
	clock := irq.NewSystemClock()
	startOver := func(by string) { m.guest.Stop(vtl.End{Kind: vtl.EndReset, Message: by}) }
	m.com1 = serial.New(isa(irqCOM1), clock)
	m.com2 = serial.New(isa(irqCOM2), clock)
	m.pm = pm.New(isa(irqSCI), clock, func(sleepType uint8) {
		if sleepType == pm.SleepTypeS5 {
			m.guest.Stop(vtl.End{Kind: vtl.EndPowerOff})
		}
	})
	timer := pit.New(isa(irqTimer), clock)
	clockChip := rtc.New(isa(irqRTC), clock, time.Now)
	control := reset.New(func(r reset.Reason) { startOver(r.String()) })
	m.pci = pcihost.New(ecamBase, control.CF9())
	keyboard := i8042.New(func() { startOver("keyboard controller") })
	post := &debugport.Scratch{}
	m.resetters = []bus.Resetter{
		m.com1, m.com2, m.pm, timer, clockChip, control, m.pci, keyboard, post, pics, ioapic,
	}
	for _, p := range []struct {
		name   string
		first  uint16
		count  int
		device bus.PIODevice
	}{
		{"pic master", pic.MasterPort, pic.PortCount, pics.Master()},
		{"pic slave", pic.SlavePort, pic.PortCount, pics.Slave()},
		{"elcr", pic.ELCRPort, pic.ELCRCount, pics.ELCR()},
		{"pit", pit.PortBase, pit.PortCount, timer},
		{"speaker", pit.SpeakerPort, pit.SpeakerPortCount, timer.Speaker()},
		{"rtc", rtc.Port, rtc.PortCount, clockChip},
		{"post", debugport.Port, 1, post},
		{"com1", portCOM1, serial.PortCount, m.com1},
		{"com2", portCOM2, serial.PortCount, m.com2},
		{"pm", portPM, pm.BlockSize, m.pm},
		{"fast a20", reset.FastPort, 1, control.Port92()},
		{"pci ports", pciPortBase, pciPortSize, m.pci.PortWindow(pciPortBase)},
		{"pci config", pcihost.Port, pcihost.PortCount, m.pci},
		{"i8042 data", i8042.DataPort, 1, keyboard.Data()},
		{"i8042 command", i8042.CommandPort, 1, keyboard.Command()},
	} {
		if err := m.ports.Map(p.name, p.first, p.count, p.device); err != nil {
			return err
		}
	}
	type window struct {
		name   string
		first  x86.GPA
		size   uint64
		device bus.MMIODevice
	}
	windows := []window{
		{"ioapic", ioapicBase, apic.IOAPICSize, ioapic},
		{"ecam", ecamBase, ecamSize, m.pci},
		{"pci low", pciLowBase, pciLowSize, m.pci.Window(pciLowBase)},
		{"pci high", pciHighBase, m.pciHigh, m.pci.Window(pciHighBase)},
	}
	if m.tpm != nil {
		m.resetters = append(m.resetters, m.tpm.front)
		windows = append(windows, window{"tpm", tpmBase, tpmSize, m.tpm.front}, window{"ppi", ppi.Base, ppi.Size, m.tpm.presence})
	}
	for _, r := range windows {
		if err := m.mmio.Map(r.name, r.first, r.size, r.device); err != nil {
			return err
		}
	}
	return nil
}

// describe prepares the tables that tell the guest what connect has built.
func (m *machine) describe(c *config.Config) error {
	ids := make([]x86.APICID, c.VPs)
	for i := range ids {
		ids[i] = m.guest.APICs().Local(i).ID()
	}
	var bus acpi.Window
	if c.Has(config.FrontStorVSC) {
		bus = acpi.Window{Base: vmbusBase, Size: vmbusSize}
	}
	tables, err := acpi.Build(acpi.Machine{
		APICIDs: ids, LocalAPIC: localAPICBase, IOAPIC: ioapicBase, IOAPICID: ioapicID, Overrides: overrides,
		SCI: irqSCI, PM1Event: portPM + pm.EventOffset, PM1Control: portPM + pm.ControlOffset,
		PMTimer: portPM + pm.TimerOffset, GPE0: portPM + pm.GPE0Offset, GPE0Size: pm.GPE0Size,
		SleepTypeS5: pm.SleepTypeS5, ResetPort: reset.ControlPort, ResetValue: reset.FADTValue, Century: rtc.CenturyIndex,
		ECAM:     acpi.Window{Base: ecamBase, Size: ecamSize},
		PCIPorts: acpi.Window{Base: pciPortBase, Size: pciPortSize},
		PCILow:   acpi.Window{Base: pciLowBase, Size: pciLowSize},
		PCIHigh:  acpi.Window{Base: pciHighBase, Size: m.pciHigh},
		UARTs:    uarts,
		VMBus:    bus,
		TPM:      m.tpm.acpi(m.memory),
		Reclaim:  acpi.Window{Base: acpiBase, Size: acpiSize}, FACSAddr: facsBase,
	})
	if err != nil {
		return err
	}
	info := smbios.Info{Version: Version, Date: releaseDate, Serial: c.GuestName, Sockets: 1, Cores: c.VPs, Threads: 1}
	for _, r := range m.memory.Regions() {
		info.RAM = append(info.RAM, smbios.Range{Start: r.GPA, Size: r.Size()})
	}
	firmware, err := smbios.Build(smbiosBase, info)
	if err != nil {
		return err
	}
	m.rsdp = tables.RSDP
	m.tables = append(tables.Blobs, acpi.Blob{Name: "SMBIOS", GPA: smbiosBase, Data: firmware})
	return nil
}

// memoryMap is the guest's memory as the loader needs it.
func memoryMap(memory *guestmem.Memory, c *config.Config) guestload.Map {
	m := guestload.Map{Reserved: slices.Clone(reserved)}
	for _, r := range memory.Regions() {
		if r.GPA == 0 {
			m.LowRAM = r.Size()
		} else {
			m.HighRAM = r.Size()
		}
	}
	if c.TPM != nil {
		m.LowRAM -= eventlog.AreaSize
		m.Reserved = append(m.Reserved, guestload.Region{Start: x86.GPA(m.LowRAM), Size: eventlog.AreaSize, Kind: guestload.KindNVS})
	}
	return m
}

// boot resets the machine, loads the payload and runs the guest until it ends.
// entering is called when the first instruction is about to run.
func (m *machine) boot(p *payload, c *config.Config, entering func()) (vtl.End, error) {
	for _, r := range m.resetters {
		r.Reset()
	}
	low, high := pcihost.Range{Base: pciLowBase, Size: pciLowSize}, pcihost.Range{Base: pciHighBase, Size: m.pciHigh}
	if err := m.pci.Assign(low, high, pcihost.Range{Base: pciPortBase, Size: pciPortSize}); err != nil {
		return vtl.End{}, err
	}
	for _, t := range m.tables {
		if err := m.memory.WriteAt(t.GPA, t.Data); err != nil {
			return vtl.End{}, err
		}
	}
	boot := guestload.Boot{CommandLine: c.CommandLine, RSDP: m.rsdp}
	if !m.tellsFrequency {
		boot.Hints = clockHint(c.CommandLine, m.guest.TSCHz())
	}
	entry, err := p.load(boot)
	if err != nil {
		return vtl.End{}, err
	}
	if m.tpm != nil {
		log, err := m.tpm.bring(func(banks []eventlog.Algorithm) (measure.Inputs, error) {
			return m.inputs(p, boot, c.Canonical(), banks)
		})
		if err != nil {
			return vtl.End{}, err
		}
		if err := m.memory.WriteAt(logArea(m.memory).Base, log); err != nil {
			return vtl.End{}, err
		}
	}
	return m.guest.Run(func(bsp hcl.VP) error {
		if err := bsp.SetSpecialRegisters(&entry.Special); err != nil {
			return err
		}
		if err := bsp.SetRegisters(&entry.Registers); err != nil {
			return err
		}
		entering()
		return nil
	})
}

// ended does what firmware does after a guest: its last wishes are kept, and its memory
// is cleared if it asked for that (TCG Platform Reset Attack Mitigation 1.10).
func (m *machine) ended() error {
	if m.tpm == nil {
		return nil
	}
	overwrite := m.tpm.presence.TakeOverwriteRequest()
	m.tpm.save()
	if !overwrite {
		return nil
	}
	for _, r := range m.memory.Regions() {
		all, err := m.memory.Slice(r.GPA, int(r.Size()))
		if err != nil {
			return err
		}
		clear(all)
	}
	return nil
}
