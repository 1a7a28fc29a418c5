package nvme

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"keel/diag/inspect"
	"keel/translate/blk"
)

// Bounds of what the scanner remembers and says.
const (
	maxTold   = 1024
	eventRest = 4 // parts of a tick between two rounds of events
)

// scanner handles asynchronous events, looks at the namespaces, and tells their
// watchers, until the controller is closed.
func (c *Controller) scanner() {
	for {
		select {
		case <-c.closing:
			return
		case <-c.scan:
		}
		c.deliver()
		if c.Err() != nil {
			continue
		}
		by := time.Now().Add(c.config.StartTimeout)
		if c.listen(by) {
			if err := c.rescan(by); err != nil && c.scans.again() {
				c.log.Warn("NVMe namespaces could not be read", inspect.PublicAttr("error", err))
			}
			c.deliver()
			// A controller that makes events without end gets no more attention
			// than this.
			select {
			case <-c.closing:
				return
			case <-time.After(c.period / eventRest):
			}
		}
	}
}

// listen takes the events that came, asks for more, and tells whether namespaces
// may have changed. Reading the log page of an event's kind allows the next one of
// it (NVMe §5.2).
func (c *Controller) listen(by time.Time) (changed bool) {
	for _, e := range c.admin.listen(min(c.identity.events, maxEvents)) {
		c.events.Add(1)
		kind, info, page := e&7, e>>8&0xff, e>>16&0xff
		size := 0
		switch page {
		case logErrors:
			size = 64
		case logHealth, logFirmware:
			size = 512
		case logNamespaces:
			size = pageSize
		default:
			continue
		}
		if _, err := c.log0(page, size, by); err != nil {
			continue
		}
		changed = changed || kind == eventNotice && info == noticeNamespace
	}
	return changed
}

// log0 reads the beginning of a log page, for all namespaces.
func (c *Controller) log0(page uint32, size int, by time.Time) ([]byte, error) {
	var e entry
	e.start(adminGetLog, everyNamespace)
	e.dword(10, uint32(size/4-1)<<16|page)
	_, data, err := c.call(&e, by)
	return data, err
}

// subscribe asks for events of changed namespaces. Whether that works does not
// matter: there will be none.
func (c *Controller) subscribe(by time.Time) {
	if c.identity.notices&dw11Namespaces == 0 {
		return
	}
	var e entry
	e.start(adminSetFeatures, 0)
	e.dword(10, featureEvents)
	e.dword(11, dw11Namespaces)
	if _, _, err := c.call(&e, by); err != nil {
		c.log.Debug("NVMe events are not available", inspect.PublicAttr("error", err))
	}
}

// rescan reads the namespaces. An error means that the controller did not answer.
func (c *Controller) rescan(by time.Time) error {
	c.scanning.Lock()
	defer c.scanning.Unlock()
	list, err := c.active(by)
	if err != nil {
		return err
	}
	for _, id := range list {
		data, err := c.describe(id, by)
		if silent(err) {
			return err
		}
		c.found(id, &data, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, n := range c.namespaces {
		if !slices.Contains(list, id) {
			c.remove(n)
		}
	}
	return nil
}

// silent tells whether an error means that the controller does not answer.
func silent(err error) bool {
	return err != nil && (errors.Is(err, errNoAnswer) || errors.Is(err, errReset) || errors.Is(err, blk.ErrRemoved))
}

// active returns the namespaces that the controller lists, or counts when it
// cannot list them. What exceeds Config.MaxNamespaces is left out.
func (c *Controller) active(by time.Time) ([]uint32, error) {
	var list []uint32
	last := uint32(0)
	for len(list) < c.config.MaxNamespaces {
		b, err := c.identify(cnsActive, last, by)
		if silent(err) {
			return nil, err
		}
		if err != nil {
			if len(list) > 0 {
				break
			}
			for id := uint32(1); id <= min(c.identity.namespaces, uint32(c.config.MaxNamespaces)); id++ {
				list = append(list, id)
			}
			return list, nil
		}
		more, full := parseList(b, last)
		list = append(list, more...)
		if !full {
			break
		}
		last = list[len(list)-1]
	}
	return list[:min(len(list), c.config.MaxNamespaces)], nil
}

// describe reads what a namespace says of itself.
func (c *Controller) describe(id uint32, by time.Time) (namespaceData, error) {
	b, err := c.identify(cnsNamespace, id, by)
	if err != nil {
		return namespaceData{}, err
	}
	data, err := parseNamespace(b, &c.identity)
	if err != nil {
		return data, err
	}
	// The list is newer than 1.2; without it the identifiers above must do.
	b, err = c.identify(cnsDescriptors, id, by)
	if silent(err) {
		return data, err
	}
	if err == nil {
		parseDescriptors(b, &data.identity)
	}
	return data, nil
}

// found compares a namespace with what was known of it.
func (c *Controller) found(id uint32, data *namespaceData, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.namespaces[id]
	if err != nil {
		if known != nil {
			c.remove(known)
		}
		c.refuse(id, err)
		return
	}
	if known != nil && (known.identity != data.identity || known.blockSize != data.info.BlockSize) {
		if c.swaps.again() {
			c.log.Warn("NVMe namespace was replaced", inspect.PublicAttr("namespace", id))
		}
		c.remove(known)
		known = nil
	}
	if known == nil {
		n := newNamespace(c, id, data)
		c.namespaces[id] = n
		c.order = append(c.order, n)
		c.fresh = append(c.fresh, n)
		return
	}
	if known.update(data) {
		c.note(known, newsResized)
	}
}

// refuse counts a namespace that cannot be used, and says so once.
func (c *Controller) refuse(id uint32, err error) {
	if errors.Is(err, errInactive) || c.told[id] || len(c.told) >= maxTold {
		return
	}
	c.told[id] = true
	c.refused.Add(1)
	c.log.Warn("NVMe namespace refused", inspect.PublicAttr("namespace", id), inspect.PublicAttr("error", err))
}

// remove takes a namespace away. Requests that wait end when their queue gets to
// them. The caller holds mu.
func (c *Controller) remove(n *Namespace) {
	n.gone.Store(true)
	delete(c.namespaces, n.id)
	c.order = slices.DeleteFunc(c.order, func(o *Namespace) bool { return o == n })
	c.note(n, newsRemoved)
}

// note remembers an event for a namespace's watcher. The caller holds mu.
func (c *Controller) note(n *Namespace, news uint32) {
	n.news.Or(news)
	if !n.listed {
		n.listed = true
		c.pending = append(c.pending, n)
	}
	c.wakeScanner()
}

// announce is note for those without the lock.
func (c *Controller) announce(n *Namespace, news uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(n, news)
}

// deliver tells watchers and Added what happened.
func (c *Controller) deliver() {
	c.mu.Lock()
	pending, fresh := c.pending, c.fresh
	c.pending, c.fresh = nil, nil
	for _, n := range pending {
		n.listed = false
	}
	c.mu.Unlock()
	for _, n := range pending {
		n.tell()
	}
	for _, n := range fresh {
		if c.config.Added != nil && !n.gone.Load() {
			c.config.Added(n)
		}
	}
}

// String names the namespace in messages.
func (n *Namespace) String() string {
	return fmt.Sprintf("%s namespace %d", n.c.f.ID().Address, n.id)
}
