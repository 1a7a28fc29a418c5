package serial

// trigger returns how many characters raise the received-data interrupt.
func (u *UART) trigger() int {
	if u.fcr&fcrEnable == 0 {
		return 1
	}
	return triggerLevels[u.fcr>>fcrTriggerShift]
}

// depth returns how many characters the receiver holds: one without FIFOs.
func (u *UART) depth() int {
	if u.fcr&fcrEnable == 0 {
		return 1
	}
	return fifoDepth
}

func (u *UART) clearRX() {
	u.rx.clear()
	u.stopTimeout()
}

// receive takes the oldest character, reveals the errors of its successor
// (§8.4: they are shown when the character reaches the top) and lets the host
// send more.
func (u *UART) receive() uint8 {
	var data uint8
	if u.rx.n > 0 {
		data = u.rx.pop().data
		u.reveal()
	}
	u.restartTimeout()
	u.refill()
	return data
}

// arrive appends a character. Preconditions: the receiver has room.
func (u *UART) arrive(c rxChar) {
	u.rx.push(c)
	if u.rx.n == 1 {
		u.reveal()
	}
	u.restartTimeout()
}

func (u *UART) reveal() {
	if u.rx.n > 0 {
		top := u.rx.at(0)
		u.errors |= top.errors
		top.errors = 0
	}
}

func (u *UART) errorsQueued() bool {
	for i := range u.rx.n {
		if u.rx.at(i).errors != 0 {
			return true
		}
	}
	return false
}

// loopBack receives what the guest sends to itself. There is no handshake here:
// a full receiver overruns as the datasheet says (§8.4: with FIFOs the new
// character is lost, without them it replaces the old one).
func (u *UART) loopBack(c rxChar) {
	if u.rx.n >= u.depth() {
		u.errors |= lsrOverrun
		if u.depth() > 1 {
			return
		}
		u.rx.clear()
	}
	u.arrive(c)
}

// refill moves characters from the host into the receiver while the guest asks
// for them (RTS) and has room.
func (u *UART) refill() {
	if u.pending.n == 0 || u.mcr&(mcrRTS|mcrLoop) != mcrRTS {
		return
	}
	for u.pending.n > 0 && u.rx.n < u.depth() {
		u.arrive(u.pending.pop())
	}
	if u.pending.free() > 0 {
		notify(u.space)
	}
}

// transmit sends one character. It is gone at once, and so the register is
// empty again, unless the output ring is about to fill.
func (u *UART) transmit(v uint8) {
	if u.mcr&mcrLoop != 0 {
		u.loopBack(rxChar{data: v})
		u.thrPending = true
		return
	}
	if !u.tx.push(v) {
		u.dropped.Add(1)
	}
	u.stalled = u.stalled || u.tx.free() < stallBelow
	u.thrPending = !u.stalled
	switch u.tx.n {
	case 1:
		notify(u.wake)
	case hurryAbove:
		notify(u.hurry)
	}
}

// restartTimeout begins the wait for the timeout interrupt after a character
// came or went (§8.6): some are there, fewer than the trigger level.
func (u *UART) restartTimeout() {
	u.timeout = false
	if u.fcr&fcrEnable == 0 || u.rx.n == 0 || u.rx.n >= u.trigger() {
		u.stopTimeout()
		return
	}
	u.timeoutAt = u.clock.Now() + timeoutDelay
	u.timer.Arm(u.timeoutAt)
}

func (u *UART) stopTimeout() {
	u.timeout = false
	if u.timeoutAt != 0 {
		u.timeoutAt = 0
		u.timer.Disarm()
	}
}

// onTimer may run late, after the wait was restarted or given up: then it has
// nothing to say.
func (u *UART) onTimer() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.timeoutAt == 0 || u.clock.Now() < u.timeoutAt {
		return
	}
	u.timeoutAt = 0
	u.timeout = true
	u.update()
}

// notify leaves a token in a channel of capacity one.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
