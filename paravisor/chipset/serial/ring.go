package serial

// ring is a first-in first-out queue of fixed capacity.
type ring[T any] struct {
	buf     []T
	head, n int
}

func newRing[T any](capacity int) ring[T] { return ring[T]{buf: make([]T, capacity)} }

func (r *ring[T]) free() int { return len(r.buf) - r.n }

func (r *ring[T]) clear() { r.head, r.n = 0, 0 }

// at returns the element i places behind the oldest.
func (r *ring[T]) at(i int) *T { return &r.buf[(r.head+i)%len(r.buf)] }

// push appends v; it reports false when the ring is full.
func (r *ring[T]) push(v T) bool {
	if r.n == len(r.buf) {
		return false
	}
	r.n++
	*r.at(r.n - 1) = v
	return true
}

// pop removes the oldest element. Preconditions: the ring is not empty.
func (r *ring[T]) pop() T {
	v := r.buf[r.head]
	r.head = (r.head + 1) % len(r.buf)
	r.n--
	return v
}

// take moves the oldest elements into p and returns their number.
func (r *ring[T]) take(p []T) int {
	total := 0
	for total < len(p) && r.n > 0 {
		run := min(r.n, len(r.buf)-r.head)
		c := copy(p[total:], r.buf[r.head:r.head+run])
		r.head = (r.head + c) % len(r.buf)
		r.n -= c
		total += c
	}
	return total
}
