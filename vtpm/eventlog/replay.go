package eventlog

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrReplay reports a log that cannot be replayed.
var ErrReplay = errors.New("event log: replay")

// PCRs are the values of one bank.
type PCRs [PCRCount][]byte

// Replay returns the values that the PCRs of a bank have after the events, from those
// after TPM2_Startup(CLEAR) at locality 0. Its errors are ErrReplay.
func Replay(events []Event, a Algorithm) (PCRs, error) {
	var pcrs PCRs
	h := a.New()
	if h == nil {
		return pcrs, fmt.Errorf("%w: %v is not known", ErrReplay, a)
	}
	for i := range pcrs {
		pcrs[i] = initial(uint32(i), a)
	}
	for i, e := range events {
		if e.Type == EVNoAction {
			if bytes.HasPrefix(e.Data, []byte(startupLocality)) && !allZero(e.Data[len(startupLocality):]) {
				return pcrs, fmt.Errorf("%w: event %d: the TPM was started from another locality than 0", ErrReplay, i+1)
			}
			continue
		}
		d := e.digest(a)
		if e.PCR >= PCRCount || len(d) != a.Size() {
			return pcrs, fmt.Errorf("%w: event %d has no digest of %v for PCR %d", ErrReplay, i+1, a, e.PCR)
		}
		h.Reset()
		h.Write(pcrs[e.PCR])
		h.Write(d)
		pcrs[e.PCR] = h.Sum(nil)
	}
	return pcrs, nil
}

// Values of PCRs after a TPM reset: those of a dynamic launch are all ones (PTP
// §4.6.2, table "PCR Attributes").
const (
	firstDynamic = 17
	lastDynamic  = 22
)

func initial(pcr uint32, a Algorithm) []byte {
	v := make([]byte, a.Size())
	if pcr >= firstDynamic && pcr <= lastDynamic {
		for i := range v {
			v[i] = 0xff
		}
	}
	return v
}
