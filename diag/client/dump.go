package client

import (
	"context"
	"io"

	"keel/diag/diagpb"
)

// maxDump bounds the file of a dump, in bytes: more memory than any VM has.
const maxDump = 1 << 44

// Dump writes an ELF core file of the guest, which is paused meanwhile, unless it was paused
// before: then it stays so. The file has holes where w can have them, and is whole when
// Dump returns no error. What is in it is the VM's word. Errors: those of the other methods
// that act on the guest, and those of w.
func (c *Client) Dump(ctx context.Context, w io.Writer) error {
	return c.file(ctx, "Control/GuestDump", &diagpb.GuestDumpRequest{}, maxDump, w)
}
