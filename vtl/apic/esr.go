package apic

// fail records an error and raises the error interrupt, once until the guest
// rearms it. Any goroutine may call it.
func (l *Local) fail(bit uint32) {
	if l.errors.Or(bit|esrSignalled)&esrSignalled == 0 {
		l.raise(lvtError)
	}
}

// writeESR shows what has accumulated, clears it and rearms the interrupt (SDM
// vol. 3, "Error Handling").
func (l *Local) writeESR() {
	l.esr = l.errors.Swap(0) &^ esrSignalled
}
