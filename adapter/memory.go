package adapter

import (
	"net/http"
	"time"

	"github.com/stagedoor/stagedoor/adapter/fair"
	"github.com/stagedoor/stagedoor/adapter/peer"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// memory is what requests under way may hold in bodies and answers, in parts that do
// not take from one another. Callers share each part.
type memory struct {
	large     *fair.Pool // bodies over smallBody, and answers over smallAnswer
	small     *fair.Pool // bodies of callers who were let in
	strangers *fair.Pool // bodies where no credentials are asked for
	operator  *fair.Pool // bodies on the operator's address
}

// parts are these by name.
func (m *memory) parts() map[string]*fair.Pool {
	return map[string]*fair.Pool{"large": m.large, "small": m.small, "strangers": m.strangers, "operator": m.operator}
}

// Of a body there are three forms at a time: as it came, as text, and as the items
// that were read from it.
const bodyForms = 3

// newMemory divides total, in bytes. Two of the largest bodies have room in any case.
func newMemory(total, body int64) memory {
	return memory{
		large:     fair.NewPool(max(total/2, 4*bodyForms*body)),
		small:     fair.NewPool(total / 4),
		strangers: fair.NewPool(total / 8),
		operator:  fair.NewPool(max(total/8, 2*bodyForms*body)),
	}
}

const (
	// smallBody is the size of the largest body that takes nothing of what there is for
	// large ones, and smallAnswer that of the largest answer. The connection takes a
	// small answer without waiting for its reader.
	smallBody   = 64 << 10
	smallAnswer = 64 << 10
	// writeTime is in how much time a large answer must be read.
	writeTime = 10 * time.Second
)

// tooLarge is nil where the answers are within the limit.
func (s *Server) tooLarge(answers []wire.Answer) error {
	if size := wire.SizeOf(answers); size > s.options.Answer {
		return wire.PayloadTooLargeError("the answer has %d bytes, and %d are allowed (stagedoor.limits.answer): "+
			"ask about fewer permissions at a time", size, s.options.Answer)
	}
	return nil
}

// writeAnswers writes the answers, by way of memory that other requests used before. The
// slot is given back first: who does not read keeps nobody else waiting, and has its own time.
func (s *Server) writeAnswers(w http.ResponseWriter, x *exchange, answers []wire.Answer) error {
	size := wire.SizeOf(answers)
	if size > smallAnswer {
		if !s.memory.large.Take(x.party, size) {
			return errAnswers
		}
		defer s.memory.large.Give(x.party, size)
	}
	s.leave(x)
	buffer := s.buffer()
	defer s.release(buffer)
	if size <= smallAnswer {
		*buffer = wire.AppendAnswers((*buffer)[:0], answers)
		return writeJSON(w, *buffer)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	// Who has no deadline to set is a test.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	var err error
	if *buffer, err = wire.WriteAnswers(w, *buffer, answers); err != nil {
		// net/http closes the connection, so that half of an answer is none.
		s.logOf(x).WithError(peer.Error(err)).Info("the caller did not read the answer")
	}
	return nil
}

// admitted gives a request one of the slots, until it leaves.
func (s *Server) admitted(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		x := exchangeOf(r)
		if err := s.enter(x); err != nil {
			return err
		}
		defer s.leave(x)
		return next(w, r)
	}
}

// enter takes a slot for the request.
func (s *Server) enter(x *exchange) error {
	if !s.slots.Take(x.party, 1) {
		return errInFlight
	}
	x.slot = true
	return nil
}

// leave gives the slot back, before the end where the request only waits from there on.
func (s *Server) leave(x *exchange) {
	if x.slot {
		x.slot = false
		s.slots.Give(x.party, 1)
	}
}

// withBody reads the body of a caller who was let in. A slow one holds no place among
// the requests in flight, and many large ones at once are turned away.
func (s *Server) withBody(next handler) handler {
	return s.withBodyUpTo(s.options.Body, s.memory.small, s.memory.large, next)
}

// withSmallBody reads the body where no credentials are asked for, and takes none of what
// there is for others: strangers could hold all of it by sending slowly.
func (s *Server) withSmallBody(next handler) handler {
	return s.withBodyUpTo(min(smallBody, s.options.Body), s.memory.strangers, s.memory.strangers, next)
}

// withOperatorBody reads the body of whoever reaches the operator's address.
func (s *Server) withOperatorBody(next handler) handler {
	return s.withBodyUpTo(s.options.Body, s.memory.operator, s.memory.operator, next)
}

func (s *Server) withBodyUpTo(limit int64, small, large *fair.Pool, next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		x := exchangeOf(r)
		size := r.ContentLength
		if size < 0 || r.Header.Get("Content-Encoding") != "" {
			size = limit // of unknown length
		}
		pool := small
		if size = min(size, limit); size > smallBody {
			pool = large
		}
		held := bodyForms * size
		if !pool.Take(x.party, held) {
			return errBodies
		}
		defer func() { pool.Give(x.party, held) }()
		buffer := s.buffer()
		body, err := wire.ReadBody(r, limit, *buffer)
		if err != nil {
			return err
		}
		if unused := held - bodyForms*int64(len(body)); unused > 0 {
			pool.Give(x.party, unused)
			held -= unused
		}
		x.body = body
		err = next(w, r)
		x.body = nil // its memory is another's from here on
		if cap(body) > cap(*buffer) {
			*buffer = body
		}
		s.release(buffer)
		return err
	}
}

// buffer returns memory for a body or an answer, until it is released.
func (s *Server) buffer() *[]byte {
	if buffer, ok := s.buffers.Get().(*[]byte); ok {
		return buffer
	}
	return new([]byte)
}

func (s *Server) release(buffer *[]byte) {
	const most = 64 << 10 // larger ones are rare, and would be held for as long as any
	if cap(*buffer) <= most {
		s.buffers.Put(buffer)
	}
}
