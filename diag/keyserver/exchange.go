package keyserver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"keel/diag/attest"
	"keel/paravisor/keyrelease"
)

// exchange is one client's conversation.
type exchange struct {
	*Server
	*keyrelease.Conversation
	log *slog.Logger
}

// run has the exchange from the hello on, and counts and logs a release or a report.
func (e *exchange) run() error {
	rules, err := e.config.Policy.find(e.VM)
	if err != nil {
		return err
	}
	evidence, nonce, err := e.Challenge()
	if err != nil {
		return err
	}
	result, err := rules.judge(e.VM, evidence, nonce, e.config.Now())
	if err != nil {
		return err
	}
	if e.Reported != nil {
		return e.report(result)
	}
	key, made, err := e.keys.key(e.VM)
	if err != nil {
		return err
	}
	if made {
		e.created.Add(1)
	}
	// Before it is sent: a line too many is better than a key of which the log knows nothing.
	e.log.Info("release", append(about(result), "new_key", made)...)
	if err := e.Release(key); err != nil {
		return err
	}
	e.released.Add(1)
	return nil
}

// report keeps what the VM says of its state.
func (e *exchange) report(result *attest.Result) error {
	r := e.Reported
	floor, older, err := e.keys.report(e.VM, r)
	if err != nil {
		return err
	}
	said := append(about(result), "start", r.Start, "sequence", r.Sequence)
	if older {
		e.log.Warn("older state allowed", append(said, "goes_on_from", floor)...)
	} else {
		e.log.Info("report", said...)
	}
	e.reported.Add(1)
	return e.Accept(floor)
}

// about is what the log says of good evidence.
func about(r *attest.Result) []any {
	signer := "hardware"
	if r.Emulated {
		signer = "EMULATED, proves nothing"
	}
	return []any{
		"tee", r.Kind, "evidence", signer, "debug", r.Debug, "measurement", hex.EncodeToString(r.Measurement),
		"tcb", fmt.Sprintf("%#x", r.TCB), "tee_svn", hex.EncodeToString(r.TEESVN), "configuration", hex.EncodeToString(r.Claim.Config[:]),
		"chip", hex.EncodeToString(r.ChipID),
	}
}

// end counts, logs and answers what went wrong, if anything did.
func (e *exchange) end(err error) {
	if err == nil {
		return
	}
	reason := keyrelease.Line(err.Error())
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		e.refused.Add(1)
		e.log.Warn("refuse", "rule", refusal.Rule, "reason", reason)
		e.tell(reason)
		return
	}
	switch {
	case errors.Is(err, ErrKeys), errors.Is(err, ErrKeyFile):
		e.failed.Add(1)
		e.log.Error("fail", "reason", reason)
		e.tell("the server cannot read or keep its files of this VM; its log says why")
	case errors.Is(err, keyrelease.ErrMalformed), errors.Is(err, keyrelease.ErrVersion):
		e.broken.Add(1)
		e.log.Warn("break", "reason", reason)
		e.tell(reason)
	default: // it has left or is slow: nobody would hear it
		e.broken.Add(1)
		e.log.Warn("break", "reason", reason)
	}
}

// tell refuses. A client that does not wait for it knows less, and that is all.
func (e *exchange) tell(reason string) {
	if err := e.Refuse(reason); err != nil {
		e.log.Debug("the client does not hear it", "error", err)
	}
}
