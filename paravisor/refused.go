package paravisor

import (
	"keel/hcl"
	"keel/translate/nvme"
	"keel/translate/scsi"
	"keel/translate/storvsp"
	"keel/translate/virtioscsi"
	"keel/translate/vmbus"
	"keel/vtl/hv"
)

// refusals count what was refused, by reason. The reasons are listed in this folder's
// README and stay what they are.
type refusals map[string]uint64

// add counts n more for a reason. What never happened has no entry.
func (r refusals) add(reason string, n uint64) {
	if n > 0 {
		r[reason] += n
	}
}

// refused counts what guest and devices asked or answered in vain.
func (m *machine) refused() refusals {
	r := refusals(m.guest.Refused())
	m.disks.refused(r)
	if m.tpm != nil {
		r.tpm(m.tpm)
	}
	r.strict(m.gate)
	return r
}

// strict adds the requests to the host that strict mode has refused.
func (r refusals) strict(g *hcl.Gate) {
	r.add("strict-memory", g.Refused(hcl.HostMemory))
	r.add("strict-device", g.Refused(hcl.HostDevice))
	r.add("strict-file", g.Refused(hcl.HostFile))
	r.add("strict-key-server", g.Refused(hcl.HostKeyServer))
	r.add("strict-nmi", g.Refused(hcl.HostNMI))
}

// refused adds what the disks, their fronts and their controllers have counted.
func (d *disks) refused(r refusals) {
	for _, target := range d.targets {
		if target != nil {
			r.scsi(target.Stats())
		}
	}
	for _, count := range d.counts {
		count(r)
	}
	if d.controllers != nil {
		d.controllers.refused(r)
	}
}

// scsi adds the commands that a target did not carry out.
func (r refusals) scsi(s scsi.Stats) {
	r.add("scsi-illegal", s.Illegal)
	r.add("scsi-protected", s.Protected)
	r.add("scsi-error", s.Errors)
	r.add("scsi-not-ready", s.NotReady)
	r.add("scsi-conflict", s.Conflicts)
	r.add("scsi-overrun", s.Overruns)
	r.add("scsi-busy", s.Busy)
}

// nvme adds what the host's controllers did wrong.
func (r refusals) nvme(s nvme.Stats) {
	r.add("nvme-error", s.Errors)
	r.add("nvme-timeout", s.Timeouts)
	r.add("nvme-reset", s.Resets)
	r.add("nvme-completion", s.Spurious+s.BadHeads)
	r.add("nvme-request", s.Broken)
	r.add("nvme-namespace", s.Refused)
}

// virtioSCSI adds what a virtio-scsi controller did not take, from its PCI function to
// its requests.
func (r refusals) virtioSCSI(s virtioscsi.Stats) {
	r.add("virtio-scsi-request", s.Malformed)
	r.add("virtio-scsi-target", s.BadTarget)
	r.add("virtio-scsi-overrun", s.Overruns)
	r.add("virtio-scsi-config", s.Config)
	r.add("virtio-scsi-event", s.Missed)
	r.add("virtio-register", s.Virtio.Refused)
	r.add("virtio-ring", s.Virtio.Broken)
	r.add("pci-msix", s.PCI.Refused+s.PCI.NoVector)
	r.add("pci-config", s.PCI.ConfigLost)
}

// vmbus adds what the server of Hyper-V's bus did not take.
func (r refusals) vmbus(s vmbus.Stats) {
	r.add("vmbus-message", s.Malformed+s.Unexpected)
	r.add("vmbus-id", s.UnknownID)
	r.add("vmbus-gpadl", s.BadGPADL+s.Limits)
	r.add("vmbus-open", s.BadOpen)
	r.add("vmbus-version", s.Versions)
	r.add("vmbus-backpressure", s.Backpressure)
	r.add("vmbus-undelivered", s.Undelivered+s.LostInterrupt)
	r.add("vmbus-connection", s.BadConnection)
	r.add("vmbus-ring", s.BrokenRings)
	r.add("vmbus-packet", s.BadPackets)
}

// storvsp adds what a storage controller on that bus did not take.
func (r refusals) storvsp(s storvsp.Stats) {
	r.add("storvsc-packet", s.BadPackets)
	r.add("storvsc-state", s.BadState)
	r.add("storvsc-request", s.BadRequest)
	r.add("storvsc-absent", s.Absent)
	r.add("storvsc-dropped", s.Dropped)
}

// hypervisor adds what the hypervisor interface did not do.
func (r refusals) hypervisor(s hv.Stats) {
	r.add("hv-call", s.CallsRefused)
	r.add("hv-msr", s.MSRsRefused)
	r.add("hv-busy", s.MessagesBusy)
	r.add("hv-crash", s.CrashesIgnored)
}

// tpm adds what the TPM and its registers did not do. A command that the TPM refuses for
// what is in it is none of these: that is its daily work.
func (r refusals) tpm(t *tpm) {
	r.add("tpm-register", t.ignored())
	r.add("tpm-lockout", t.engine.Stats().Lockouts)
	r.add("tpm-worker", t.engine.Stats().Lost)
	r.add("tpm-commit", t.engine.Stats().CommitErrors)
	if t.reports != nil {
		r.add("tpm-report", t.reports.refused.Load()+t.reports.lost.Load())
	}
	presence := t.presence.Stats()
	r.add("tpm-presence", presence.Failed+presence.Unknown)
}
