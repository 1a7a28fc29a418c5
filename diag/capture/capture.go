// Package capture makes a packet capture of storage commands that Wireshark and tshark
// take apart without a plugin: SCSI commands become iSCSI (RFC 7143), NVMe commands
// NVMe/TCP, each in an invented TCP connection between addresses of 198.18.0.0/15, which
// networks are tested with (RFC 2544) and no machine has.
package capture

import (
	"io"
	"time"

	"keel/diag/pcapng"
	"keel/translate/meter"
	"keel/translate/tap"
)

// Source is a part of the I/O path: an interface of the capture. Its place in the list is
// the number of its tap.
type Source struct {
	Name        string
	Description string
	NVMe        bool // a controller; otherwise a SCSI logical unit
}

// Writer writes a capture.
type Writer struct {
	pcap    *pcapng.Writer
	sources []Source
	flows   map[flowKey]*flow
	packet  []byte
}

// NewWriter begins a capture of sources that an application makes.
func NewWriter(w io.Writer, application string, start time.Time, sources []Source) (*Writer, error) {
	var interfaces []pcapng.Interface
	for _, s := range sources {
		interfaces = append(interfaces, pcapng.Interface{Name: s.Name, Description: s.Description, Link: pcapng.LinkRaw})
	}
	pcap, err := pcapng.NewWriter(w, application, start, interfaces)
	if err != nil {
		return nil, err
	}
	return &Writer{pcap: pcap, sources: sources, flows: map[flowKey]*flow{}}, nil
}

// Write writes the records of a batch.
func (w *Writer) Write(b *tap.Batch) error {
	for i := range b.Records {
		if err := w.record(&b.Records[i], b.Data(&b.Records[i])); err != nil {
			return err
		}
	}
	return nil
}

// Statistics writes what each source has seen.
func (w *Writer) Statistics(counts []tap.Count, now time.Time) error {
	for i, n := range counts {
		if err := w.pcap.Statistics(i, now, pcapng.Statistics{Received: n.Seen, Dropped: n.Lost}); err != nil {
			return err
		}
	}
	return nil
}

// record writes the packets of a record.
func (w *Writer) record(r *tap.Record, data []byte) error {
	f := w.flow(r)
	switch r.Kind {
	case tap.SCSICommand:
		return w.send(f, toTarget, r, appendCommand(w.head(), f, r, data))
	case tap.SCSIStatus:
		if len(data) > 0 {
			if err := w.send(f, toInitiator, r, appendDataIn(w.head(), f, r, data)); err != nil {
				return err
			}
		}
		return w.send(f, toInitiator, r, appendResponse(w.head(), f, r))
	case tap.NVMeCommand:
		return w.send(f, toTarget, r, appendCapsule(w.head(), pduCommand, r))
	case tap.NVMeCompletion:
		return w.send(f, toInitiator, r, appendCapsule(w.head(), pduCompletion, r))
	}
	return nil
}

// head returns the packet with room for the headers that send writes.
func (w *Writer) head() []byte { return append(w.packet[:0], make([]byte, headers)...) }

// send writes a packet whose payload is complete.
func (w *Writer) send(f *flow, to direction, r *tap.Record, packet []byte) error {
	w.packet = packet // with what it has grown to
	f.address(to, packet)
	return w.pcap.Packet(int(r.Source), meter.Wall(r.Time), packet, len(packet))
}
