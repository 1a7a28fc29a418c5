package config

import (
	"fmt"
	"strings"
)

// Canonical returns what shapes the machine, one setting a line: equal machines have
// equal texts. The command line and the payload are left out, and so is what the guest
// cannot see: names on the host, logs, keys. Who can read the TPM's state counts, and with
// it the server that knows its key.
func (c *Config) Canonical() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "vps=%d\nmemory=%d\nconsole=%v\nisolation=%v\n", c.VPs, c.Memory, c.Console, c.Isolation)
	if c.Strict != StrictOff {
		fmt.Fprintf(&b, "strict=%v\n", c.Strict)
	}
	for _, d := range c.Disks {
		fmt.Fprintf(&b, "disk=%v:%d members=%d chunk=%d read-only=%t dvd=%t\n", d.Front, d.LUN, len(d.Serials), d.Chunk, d.ReadOnly, d.DVD)
	}
	if c.TPM != nil {
		fmt.Fprintf(&b, "tpm=%v state=%v\n", c.TPM.Interface, c.TPM.Seal)
		if c.TPM.Seal == SealReleased {
			fmt.Fprintf(&b, "key-server=%x\n", c.TPM.KeyServer)
		}
	}
	return []byte(b.String())
}
