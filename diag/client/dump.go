package client

import (
	"context"
	"fmt"

	"keel/diag/diagpb"
)

// maxDump bounds the file of a dump: more memory than any VM has.
const maxDump = 1 << 44

// Dump takes an ELF core file of the guest, which is paused meanwhile, unless it was paused
// before: then it stays so. Each piece of the file goes to each, with its offset and the
// size of the whole; pieces come in ascending order, and what is between them is zeroes.
// The file is whole when Dump returns no error; what is in it is the VM's word. Of a
// confidential guest it is an age file, for the owner: the size of the whole is unknown,
// 0, and there are no zeroes between the pieces. Errors: those of the other methods that
// act on the guest, and those of each.
func (c *Client) Dump(ctx context.Context, each func(size, offset uint64, data []byte) error) error {
	var size, end uint64
	sealed := false
	err := follow(ctx, c, "Control/GuestDump", &diagpb.GuestDumpRequest{}, func(p *diagpb.GuestDumpResponse) error {
		offset, n := p.GetOffset(), uint64(len(p.GetData()))
		if sealed = sealed || end == 0 && Sealed(p.GetData()); sealed {
			offset = end
			end += n
			return each(0, offset, p.GetData())
		}
		if size == 0 {
			size = p.GetSize()
		}
		if size != p.GetSize() || size > maxDump || offset < end || offset > size || n > size-offset {
			return fmt.Errorf("%w: a piece of %d bytes at %d, of %d", ErrAnswer, n, offset, p.GetSize())
		}
		end = offset + n
		return each(size, offset, p.GetData())
	})
	if err == nil && !sealed && (size == 0 || end != size) {
		return fmt.Errorf("%w: the file ends at %d of %d bytes", ErrAnswer, end, size)
	}
	return err
}
