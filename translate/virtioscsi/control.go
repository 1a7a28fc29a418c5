package virtioscsi

import (
	"encoding/binary"
	"slices"

	"keel/translate/blk"
	"keel/translate/scsi"
	"keel/translate/virtio"
)

// functions are the task management functions of the target.
var functions = [...]scsi.Function{
	tmfAbortTask:    scsi.AbortTask,
	tmfAbortTaskSet: scsi.AbortTaskSet,
	tmfClearTaskSet: scsi.ClearTaskSet,
	tmfNexusReset:   scsi.NexusReset,
	tmfUnitReset:    scsi.LogicalUnitReset,
	tmfQueryTask:    scsi.QueryTask,
	tmfQueryTaskSet: scsi.QueryTaskSet,
}

// answers are the target's answers as virtio numbers them.
var answers = [...]response{
	scsi.FunctionComplete:  respOK,
	scsi.FunctionSucceeded: respSucceeded,
	scsi.FunctionRejected:  respRejected,
	scsi.IncorrectLUN:      respIncorrectLUN,
}

// control is a control request in flight. There is one for each slot of the
// control queue.
type control struct {
	controller *Controller
	chain      *virtio.Chain
	response   []blk.Segment
	task       scsi.Task
	header     [tmfSize]byte
	reply      [asyncReply]byte
}

func (k *control) init(ct *Controller) {
	k.controller = ct
	k.task.Initiator = ct.initiator
	k.task.Done = func(t *scsi.Task) {
		code := respRejected
		if int(t.Response) < len(answers) {
			code = answers[t.Response]
		}
		k.answer(code)
	}
}

// start runs the request in a chain.
func (k *control) start(chain *virtio.Chain) {
	k.chain = chain
	size, reply := tmfSize, tmfReply
	ok := virtio.Read(k.header[:ctrlTypeSize], &chain.Readable) == ctrlTypeSize
	kind := binary.LittleEndian.Uint32(k.header[:])
	switch kind {
	case ctrlTMF:
	case ctrlQuery, ctrlSubscribe:
		size, reply = asyncSize, asyncReply
	default:
		ok = false
	}
	if !ok || chain.WritableBytes < uint64(reply) ||
		virtio.Read(k.header[ctrlTypeSize:size], &chain.Readable) != size-ctrlTypeSize {
		k.controller.counters.malformed.Add(1)
		chain.Complete(0) // nobody knows where the response would be
		return
	}
	k.response = virtio.Take(k.response[:0], &chain.Writable, reply)
	if kind == ctrlTMF {
		k.manage()
		return
	}
	k.notifications(kind == ctrlSubscribe)
}

// manage runs a task management function.
func (k *control) manage() {
	lun, ok := parseLUN(k.header[tmfLUN:])
	function := binary.LittleEndian.Uint32(k.header[tmfSubtype:])
	if function == tmfNexusReset && !ok {
		// All that counts is the target.
		ok = k.header[tmfLUN] == lunTarget && k.header[tmfLUN+1] == 0
	}
	switch {
	case !ok:
		k.controller.counters.badTarget.Add(1)
		k.answer(respBadTarget)
		return
	case function >= uint32(len(functions)), function == tmfClearACA: // no command enters ACA
		k.answer(respRejected)
		return
	}
	k.controller.counters.managed.Add(1)
	k.task.Function = functions[function]
	k.task.LUN, k.task.Tag = lun, binary.LittleEndian.Uint64(k.header[tmfTag:])
	k.controller.target.Manage(&k.task)
}

// answer completes a task management function.
func (k *control) answer(code response) {
	k.reply[0] = byte(code)
	virtio.Write(k.response, k.reply[:tmfReply])
	k.chain.Complete(tmfReply)
}

// notifications tells which asynchronous notifications a logical unit has, and
// subscribes to them.
func (k *control) notifications(subscribe bool) {
	lun, ok := parseLUN(k.header[asyncLUN:])
	events := binary.LittleEndian.Uint32(k.header[asyncEvents:]) & asyncMediaChange
	code := respOK
	switch {
	case !ok:
		k.controller.counters.badTarget.Add(1)
		code, events = respBadTarget, 0
	case lun >= scsi.MaxLUNs || !slices.Contains(k.controller.target.LUNs(), lun):
		code, events = respIncorrectLUN, 0
	case subscribe:
		k.controller.subscribe[lun].Store(events)
	}
	binary.LittleEndian.PutUint32(k.reply[:], events)
	k.reply[asyncResponse] = byte(code)
	virtio.Write(k.response, k.reply[:])
	k.chain.Complete(asyncReply)
}
