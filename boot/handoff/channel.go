package handoff

import "encoding/json"

// fw_cfg files through which the host passes the configuration and the guest's
// payload (QEMU docs/specs/fw_cfg). All of them are untrusted.
const (
	FileConfig = "opt/keel/config" // configuration, protobuf as JSON (paravisor/config)
	FileKernel = "opt/keel/kernel" // guest kernel: bzImage or vmlinux
	FileInitrd = "opt/keel/initrd" // guest initrd, absent when there is none
)

// Names of the virtio-serial ports of the VM.
const (
	PortConsole = "keel.console" // the guest's COM1, raw bytes both ways
	PortLog     = "keel.log"     // log lines of the paravisor, towards the host
	PortControl = "keel.control" // Events towards the host, Commands towards Keel; one JSON object a line
)

// PortKeyServer is the vsock port of the host (VMADDR_CID_HOST) on which the launcher
// connects Keel with the key server of the VM (paravisor/keyrelease). What comes from it is
// untrusted: the protocol knows the server by its signature.
const PortKeyServer = 1025

// FileManifest is a file of VTL2's root that lists Keel's programs there with their
// digests, and the public keys of the VM's owner (diag/owner). It comes with the image
// and is measured with it.
const FileManifest = "etc/keel"

// EventKind says what an Event reports.
type EventKind string

// The events, in the order in which a good run sends them.
const (
	EventInit   EventKind = "init"   // pvinit runs; TimeMS is vtl2_init_ms
	EventStart  EventKind = "start"  // the paravisor runs; TimeMS is paravisor_start_ms
	EventEntry  EventKind = "entry"  // the guest is about to run its first instruction
	EventReset  EventKind = "reset"  // the guest reset and starts again
	EventReport EventKind = "report" // figures of the run so far; Report is set
	EventDone   EventKind = "done"   // the command with the same ID was done, or refused for the reason in Message
	EventEnd    EventKind = "end"    // the run is over; Outcome and Message are set
)

// Event is what Keel tells the launcher.
type Event struct {
	Event   EventKind `json:"event"`
	TimeMS  float64   `json:"time_ms"` // milliseconds from power-on of the VM
	Outcome Outcome   `json:"outcome,omitempty"`
	Message string    `json:"message,omitempty"` // one line: cause and remedy, or the crash with RIP and the last exits
	ID      uint64    `json:"id,omitempty"`
	Report  *Report   `json:"report,omitempty"`
}

// Report is what only the inside of the VM can measure.
type Report struct {
	Exits               map[string]uint64 `json:"exits"` // guest exits by kind
	VTL2MemoryUsedBytes uint64            `json:"vtl2_memory_used_bytes"`
	VTL2MemoryPeakBytes uint64            `json:"vtl2_memory_peak_bytes"`
	Refused             map[string]uint64 `json:"refused,omitempty"`  // requests refused, by reason (paravisor/README.md)
	Warnings            []string          `json:"warnings,omitempty"` // what makes this run less than it seems, one line each
	GuestResets         uint64            `json:"guest_resets"`
	State               map[string]any    `json:"state,omitempty"` // the tree of diag/inspect, as far as the host may see it
}

// CommandKind says what the launcher asks for.
type CommandKind string

// The commands.
const (
	CommandNMI      CommandKind = "nmi"      // deliver an NMI to every VP
	CommandReport   CommandKind = "report"   // send an EventReport now
	CommandShutdown CommandKind = "shutdown" // press the guest's ACPI power button

	// Those that EventDone answers. Disk is set.
	CommandDiskAdd    CommandKind = "disk-add"    // show the guest a disk whose controllers were plugged in
	CommandDiskRemove CommandKind = "disk-remove" // take a disk from the guest and let go of its controllers
	CommandDiskHold   CommandKind = "disk-hold"   // let go of a disk's controllers, and let the guest's requests wait
	CommandDiskResume CommandKind = "disk-resume" // go on with controllers that were plugged in again
)

// Command is what the launcher asks of Keel. It is untrusted.
type Command struct {
	Command CommandKind     `json:"command"`
	ID      uint64          `json:"id,omitempty"`
	Disk    json.RawMessage `json:"disk,omitempty"` // as in the configuration
}
