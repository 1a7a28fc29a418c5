package guest

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// checkSerial writes the pattern, which the host verifies, and sees to it that the
// UART's interrupts carried it.
func checkSerial(*machine) (string, error) {
	console.Lock()
	defer console.Unlock()
	before, err := readInterrupts()
	if err != nil {
		return "", err
	}
	if _, ok := before["ttyS0"]; !ok {
		return "", errors.New("the serial port has no interrupt")
	}
	var pattern strings.Builder
	for i := range patternLines {
		pattern.WriteString(PatternLine(i))
	}
	begin := monotonic()
	if _, err := os.Stdout.WriteString(pattern.String()); err != nil {
		return "", err
	}
	drain()
	took := monotonic() - begin
	after, err := readInterrupts()
	if err != nil {
		return "", err
	}
	taken := after.sum("ttyS0") - before.sum("ttyS0")
	if taken == 0 {
		return "", errors.New("the serial port did not interrupt")
	}
	return fmt.Sprintf("bytes=%d interrupts=%d us_per_byte=%.1f", PatternBytes, taken,
		float64(took.Microseconds())/PatternBytes), nil
}
