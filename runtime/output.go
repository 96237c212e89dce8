package runtime

import (
	"io"
	"strings"
	"sync"

	"github.com/drone/drone-go/drone"
	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
)

// output is what stands between a step and the reporter's log of it: a card is taken out of the text, then the secrets, and what is left is logged.
//
// Cards go first: base64 would hide a secret in them from the mask. A secret that a card's escape splits in two is whole again when the mask sees it.
//
// Write never fails, so that no trouble with a log can stop a step: the first such error is told to the runner's own log, and what comes after it is dropped.
// It may be called concurrently, and after close, when it does nothing.
type output struct {
	mu     sync.Mutex
	cards  *livelog.Cards
	masker *livelog.Masker
	log    io.WriteCloser
	// report is the runner's own log.
	report logrus.FieldLogger
	// fresh is true at the start of a line.
	fresh  bool
	broken bool
	closed bool
}

// newOutput is the way into a log, which may be nil.
func newOutput(log Log, secrets []string, report logrus.FieldLogger) *output {
	o := &output{log: log, report: report, fresh: true}
	if o.log == nil {
		o.log = nowhere{}
	}
	o.masker = livelog.NewMasker(o.log, secrets)
	o.cards = livelog.NewCards(o.masker)
	return o
}

// Write logs what a step prints.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.write(p)
	return len(p), nil
}

// lines logs lines of the runner's own, each on a line of its own wherever the step's text has stopped. The output may be nil.
func (o *output) lines(lines ...string) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range lines {
		if !o.fresh {
			o.write([]byte("\n"))
		}
		o.write([]byte(strings.TrimRight(line, "\r\n") + "\n"))
	}
}

// write passes text on. The caller holds the lock.
func (o *output) write(p []byte) {
	if len(p) == 0 || o.closed || o.broken {
		return
	}
	o.fresh = p[len(p)-1] == '\n'
	_, err := o.cards.Write(p)
	o.check(err)
}

// close passes on what was held back, closes the log, and is the step's card, or nil. A second call does nothing. The error is a panic of the log's. The output may
// be nil.
func (o *output) close() (card *drone.CardInput, err error) {
	if o == nil {
		return nil, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, nil
	}
	o.closed = true
	err = protect("close the log of a step", func() error {
		o.check(o.cards.Close())
		o.check(o.masker.Close())
		o.check(o.log.Close())
		return nil
	})
	if found, ok := o.cards.Card(); ok {
		card = found
	}
	return card, err
}

// check tells the operator of the first error of the log. The caller holds the lock.
func (o *output) check(err error) {
	if err != nil && !o.broken {
		o.broken = true
		o.report.WithError(err).Warn("the log of a step is incomplete")
	}
}

// nowhere is the log of a step whose reporter keeps none.
type nowhere struct{}

// Write drops p.
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// Close does nothing.
func (nowhere) Close() error { return nil }
