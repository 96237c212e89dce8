package pause

import "time"

// Reminder chooses which failures in a row are worth a warning: the first ones, and then one a
// minute. An outage of hours would fill a log otherwise. Its zero value is ready; one goroutine
// uses it.
type Reminder struct {
	count int
	last  time.Time
}

// Next reports whether this failure is worth a warning.
func (r *Reminder) Next() bool {
	const first, every = 3, time.Minute
	if r.count++; r.count > first && time.Since(r.last) < every {
		return false
	}
	r.last = time.Now()
	return true
}

// Reset says that the row has ended.
func (r *Reminder) Reset() { *r = Reminder{} }
