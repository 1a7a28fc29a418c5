package paravisor

import (
	"errors"

	"keel/boot/handoff"
	"keel/diag/inspect"
	"keel/paravisor/config"
	"keel/vtl"
)

// confidential says that the host may not know what the guest does.
func (k *keel) confidential() bool { return k.config.Isolation != config.IsolationNone }

// told returns what the host is told of an end: nothing of the registers and exits of a
// confidential guest.
func (k *keel) told(end vtl.End) string {
	switch {
	case end.Detail == "":
		return end.Message
	case !k.confidential():
		return end.Message + " " + end.Detail
	}
	return end.Message + "; the guest is confidential: where, and its last exits, are withheld"
}

// errWithheld stands for a defect that came up while a confidential guest ran.
var errWithheld = errors.New("a defect of Keel; the guest is confidential: its description is withheld")

// discreet returns an error that came up while the guest ran, as the host may know it.
func (k *keel) discreet(err error) error {
	if _, ok := errors.AsType[*handoff.Failure](err); ok || !k.confidential() {
		return err
	}
	return errWithheld
}

// outcomeOf is what an end of the guest means for the run.
func outcomeOf(k vtl.EndKind) handoff.Outcome {
	switch k {
	case vtl.EndCrash:
		return handoff.OutcomeGuestCrashed
	case vtl.EndStopped:
		return handoff.OutcomeForcedOff
	case vtl.EndPowerOff, vtl.EndReset: // the guest starts over after a reset
	}
	return handoff.OutcomePoweroff
}

// fail ends the run over an error: a Failure says itself what it is, anything
// else is a defect of Keel or of the ground it stands on.
func (c *control) fail(err error) handoff.Outcome {
	outcome := handoff.OutcomeParavisorCrashed
	if f, ok := errors.AsType[*handoff.Failure](err); ok {
		outcome = f.Outcome
	}
	c.log.Error("the run failed", inspect.PublicAttr("outcome", outcome), "error", err)
	c.send(handoff.Event{Event: handoff.EventEnd, Outcome: outcome, Message: err.Error()})
	return outcome
}

// Refuse ends a run that cannot begin, and tells the launcher why.
func Refuse(env Environment, cause string, err error) handoff.Outcome {
	ctl := &control{w: env.Control, log: env.Log}
	return ctl.fail(&handoff.Failure{
		Outcome: handoff.OutcomeHostRefused, Cause: cause, Err: err, Remedy: "start it with keel run",
	})
}
