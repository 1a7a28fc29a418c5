package paravisor

import (
	"keel/paravisor/chipset/pcihost"
	"keel/paravisor/config"
	"keel/translate/scsi"
	"keel/translate/storvsp"
	"keel/translate/virtioscsi"
	"keel/translate/vmbus"
)

// connectDisks makes the controllers on which the guest finds its disks.
func (m *machine) connectDisks(c *config.Config) error {
	if c.Has(config.FrontVirtioSCSI) {
		if err := m.connectVirtio(c); err != nil {
			return err
		}
	}
	if c.Has(config.FrontStorVSC) {
		return m.connectVMBus(c)
	}
	return nil
}

func (m *machine) connectVirtio(c *config.Config) error {
	var front *virtioscsi.Controller
	target := scsi.New(func(e scsi.Event) {
		if front != nil { // before it is there nobody looks
			front.Notify(e)
		}
	})
	front, err := virtioscsi.New(virtioscsi.Config{
		Target: target, RequestQueues: c.VPs, DirectDMA: c.Isolation == config.IsolationNone, Memory: m.memory, MSI: m.guest.APICs(),
	})
	if err != nil {
		return err
	}
	if err := m.pci.Add(pcihost.MakeAddress(0, pciDisks, 0), front.PCI()); err != nil {
		return err
	}
	m.resetters = append(m.resetters, front)
	m.disks.targets[config.FrontVirtioSCSI] = target
	m.disks.counts = append(m.disks.counts, func(r refusals) { r.virtioSCSI(front.Stats()) })
	return nil
}

// storvscInstance tells the guest's storage controller from others on the bus.
var storvscInstance = vmbus.GUID{0x4b, 0x65, 0x65, 0x6c, 0x53, 0x43, 0x53, 0x49, 0x80, 0, 0, 0, 0, 0, 0, 1}

func (m *machine) connectVMBus(c *config.Config) error {
	hypervisor := m.guest.HyperV()
	server, err := vmbus.New(vmbus.Config{Memory: m.memory, Hypervisor: hypervisor, VPs: c.VPs})
	if err != nil {
		return err
	}
	hypervisor.SetPorts(server)
	var front *storvsp.Controller
	target := scsi.New(func(e scsi.Event) {
		if front != nil {
			front.Event(e)
		}
	})
	front, err = storvsp.New(storvsp.Config{
		Bus: server, Memory: m.memory, Target: target, Instance: storvscInstance, VPs: c.VPs, DirectDMA: c.Isolation == config.IsolationNone,
	})
	if err != nil {
		return err
	}
	m.resetters = append(m.resetters, resetFunc(func() {
		server.Reset()
		target.Manage(&scsi.Task{Function: scsi.PowerOn, Done: func(*scsi.Task) {}})
		hypervisor.Reset()
	}))
	m.disks.targets[config.FrontStorVSC] = target
	m.disks.counts = append(m.disks.counts, func(r refusals) {
		r.hypervisor(hypervisor.Stats())
		r.vmbus(server.Stats())
		r.storvsp(front.Stats())
	})
	return nil
}

// resetFunc makes a function a bus.Resetter.
type resetFunc func()

// Reset calls the function.
func (f resetFunc) Reset() { f() }
