package fair

import (
	"context"
	"slices"
	"sync"
)

// Line has turns. It is safe for concurrent use.
type Line struct {
	mu      sync.Mutex
	free    int // turns
	room    int // for more to wait
	plugins []*queues
	first   map[Party]*queue // of whoever waits
}

// queues are those of one plugin that are not empty, the next one first.
type queues struct {
	plugin string
	users  []*queue
}

// queue is one party's. It is not empty.
type queue struct {
	party   Party
	waiting []chan error // to be told nil for a turn
}

// NewLine returns a Line of so many turns, for which as many may wait as there is
// room.
func NewLine(turns, room int) *Line {
	return &Line{free: turns, room: room, first: map[Party]*queue{}}
}

// Try begins a turn where nobody has to wait for one, and reports whether it did.
func (l *Line) Try() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == 0 {
		return false
	}
	l.free--
	return true
}

// Begin waits for a turn, which ends by [Line.End]. The error is [ErrFull] where too
// many wait, and else that of ctx, and then there is no turn to end.
func (l *Line) Begin(ctx context.Context, of Party) error {
	l.mu.Lock()
	if l.free > 0 {
		l.free--
		l.mu.Unlock()
		return nil
	}
	if l.room <= 0 && !l.drop(of) {
		l.mu.Unlock()
		return ErrFull
	}
	told := l.join(of)
	l.mu.Unlock()
	return l.await(ctx, of, told)
}

// await waits until whoever joined the line is told, or leaves.
func (l *Line) await(ctx context.Context, of Party, told chan error) error {
	select {
	case err := <-told:
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leave(of, told) {
		return context.Cause(ctx)
	}
	return <-told // was told meanwhile
}

// End ends a turn: the next one's begins.
func (l *Line) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.plugins) == 0 {
		l.free++
		return
	}
	l.next()
}

// next begins the turn of whoever is next. Somebody must wait.
func (l *Line) next() {
	plugin := l.plugins[0]
	l.plugins = l.plugins[1:]
	user := plugin.users[0]
	plugin.users = plugin.users[1:]
	user.waiting[0] <- nil
	user.waiting = user.waiting[1:]
	l.room++
	if len(user.waiting) > 0 {
		plugin.users = append(plugin.users, user)
	} else {
		delete(l.first, user.party)
	}
	if len(plugin.users) > 0 {
		l.plugins = append(l.plugins, plugin)
	}
}

// Waiting returns how many wait.
func (l *Line) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, user := range l.first {
		n += len(user.waiting)
	}
	return n
}

func (l *Line) join(of Party) chan error {
	told := make(chan error, 1)
	l.room--
	if user, ok := l.first[of]; ok {
		user.waiting = append(user.waiting, told)
		return told
	}
	user := &queue{party: of, waiting: []chan error{told}}
	l.first[of] = user
	at := slices.IndexFunc(l.plugins, func(q *queues) bool { return q.plugin == of.Plugin })
	if at < 0 {
		l.plugins = append(l.plugins, &queues{plugin: of.Plugin, users: []*queue{user}})
		return told
	}
	l.plugins[at].users = append(l.plugins[at].users, user)
	return told
}

// leave takes whoever would be told that way out of the line, and reports whether he
// was still in it.
func (l *Line) leave(of Party, told chan error) bool {
	user, ok := l.first[of]
	if !ok {
		return false
	}
	at := slices.Index(user.waiting, told)
	if at < 0 {
		return false
	}
	user.waiting = slices.Delete(user.waiting, at, at+1)
	l.room++
	if len(user.waiting) > 0 {
		return true
	}
	delete(l.first, of)
	n := slices.IndexFunc(l.plugins, func(q *queues) bool { return q.plugin == of.Plugin })
	plugin := l.plugins[n]
	plugin.users = slices.DeleteFunc(plugin.users, func(q *queue) bool { return q == user })
	if len(plugin.users) == 0 {
		l.plugins = slices.Delete(l.plugins, n, n+1)
	}
	return true
}

// drop makes room where another party has more in the line than of would have: the
// last one of the longest queue of the plugin with the most is told that it is full.
func (l *Line) drop(of Party) bool {
	var most, own *queues
	length := func(q *queues) (n int) {
		if q == nil {
			return 0
		}
		for _, user := range q.users {
			n += len(user.waiting)
		}
		return n
	}
	for _, plugin := range l.plugins {
		if most == nil || length(plugin) > length(most) {
			most = plugin
		}
		if plugin.plugin == of.Plugin {
			own = plugin
		}
	}
	if most == nil {
		return false
	}
	if length(most) <= length(own)+1 {
		most = own // no plugin has more, but perhaps a user of this one
		if most == nil {
			return false
		}
	}
	longest := slices.MaxFunc(most.users, func(a, b *queue) int { return len(a.waiting) - len(b.waiting) })
	ownUser := 0
	if user, ok := l.first[of]; ok {
		ownUser = len(user.waiting)
	}
	if most == own && len(longest.waiting) <= ownUser+1 {
		return false
	}
	last := longest.waiting[len(longest.waiting)-1]
	l.leave(longest.party, last)
	last <- ErrFull
	return true
}
