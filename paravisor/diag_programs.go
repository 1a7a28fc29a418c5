package paravisor

import (
	"context"
	"io"

	"keel/diag/console"
	"keel/diag/server"
	"keel/paravisor/chipset/serial"
	"keel/paravisor/config"
)

// followConsoles makes what diagnostics follow of the guest's serial ports, where that may
// come out. A confidential guest's stays inside, also where a rule would be wrong.
func (k *keel) followConsoles() {
	if k.confidential() || k.config.Console == config.ConsoleOff {
		return
	}
	for i := range k.ports {
		k.ports[i] = &console.Port{}
	}
}

// follow returns a writer for a serial port's output: what diagnostics follow, unless it
// is nil, sees it before w does.
func follow(p *console.Port, w io.Writer) io.Writer {
	if p == nil {
		return w
	}
	return io.MultiWriter(p, w)
}

// programs is what the diagnostics of programs and consoles reach.
func (k *keel) programs() server.Programs {
	var p server.Programs
	if k.machine.tpm != nil {
		p.Restart = map[string]func(context.Context) error{"tpm": k.machine.tpm.engine.Restart}
	}
	for i, uart := range []*serial.UART{k.machine.com1, k.machine.com2} {
		if k.ports[i] == nil {
			continue
		}
		p.Consoles[i].Output = k.ports[i]
		if k.config.Console == config.ConsoleBothWays {
			p.Consoles[i].Type = uart.Type
		}
	}
	return p
}
