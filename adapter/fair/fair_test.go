package fair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func party(plugin, user string) Party { return Party{Plugin: plugin, User: user} }

func TestPoolLeavesRoomForOthers(t *testing.T) {
	p := NewPool(100)
	taken := func(of Party) (n int) {
		for p.Take(of, 1) {
			n++
		}
		return n
	}
	if n := taken(party("catalog", "ann")); n != 50 {
		t.Errorf("alone: %d; want half", n)
	}
	if n := taken(party("catalog", "bob")); n != 16 { // a third of half
		t.Errorf("another user of a plugin that has its share: %d; want 16", n)
	}
	if n := taken(party("todo", "bob")); n != 16 { // half of a third
		t.Errorf("another plugin: %d; want 16", n)
	}
	if n := taken(party("", "cid")); n != 12 { // half of a quarter
		t.Errorf("in person: %d; want 12", n)
	}
	for range 50 {
		p.Give(party("catalog", "ann"), 1)
	}
	if !p.Take(party("todo", "bob"), 0) || p.Held() != 44 {
		t.Errorf("%d held", p.Held())
	}
}

// Whoever has nothing yet is let in as long as there is anything.
func TestPoolOfFewForMany(t *testing.T) {
	p := NewPool(10)
	in := 0
	for n := range 20 {
		if p.Take(party(fmt.Sprint("plugin", n), "ann"), 1) {
			in++
		}
	}
	if in != 10 {
		t.Errorf("%d were let in; want 10", in)
	}
	one := NewPool(1)
	if !one.Take(Party{}, 1) || one.Take(party("a", "b"), 1) {
		t.Error("a pool of one")
	}
	one.Give(Party{}, 1)
	if !one.Take(party("a", "b"), 1) {
		t.Error("not given back")
	}
}

// However it is used, a Pool never gives out more than it has, and is empty in the end.
func TestPoolKeepsCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Int64Range(1, 50).Draw(t, "total")
		p := NewPool(total)
		type taking struct {
			of Party
			n  int64
		}
		var held []taking
		sum := int64(0)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			if len(held) > 0 && rapid.Bool().Draw(t, "give") {
				last := held[len(held)-1]
				held = held[:len(held)-1]
				p.Give(last.of, last.n)
				sum -= last.n
				continue
			}
			of := party(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "plugin"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "user"))
			n := rapid.Int64Range(1, 20).Draw(t, "n")
			if p.Take(of, n) {
				held = append(held, taking{of, n})
				sum += n
			}
			if sum > total || p.Held() != sum {
				t.Fatalf("%d of %d held; the pool says %d", sum, total, p.Held())
			}
		}
		for _, one := range held {
			p.Give(one.of, one.n)
		}
		if p.Held() != 0 || p.active != 0 {
			t.Fatalf("%d held by %d plugins", p.Held(), p.active)
		}
	})
}

// order has the parties wait in that order for one turn, and returns in which order
// they get it.
func order(t *testing.T, parties ...Party) []string {
	t.Helper()
	var got []string
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(1, 100)
		if err := l.Begin(t.Context(), Party{}); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		for n, p := range parties {
			all.Go(func() {
				if err := l.Begin(t.Context(), p); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got = append(got, fmt.Sprint(p.Plugin, p.User, n))
				mu.Unlock()
				l.End()
			})
			synctest.Wait()
		}
		if n := l.Waiting(); n != len(parties) {
			t.Errorf("%d wait", n)
		}
		l.End()
		all.Wait()
		if l.free != 1 || l.room != 100 || len(l.first) != 0 || len(l.plugins) != 0 {
			t.Errorf("left over: %+v", l)
		}
	})
	return got
}

func TestLineTakesTurns(t *testing.T) {
	a, b, c := party("a", "x"), party("a", "y"), party("b", "x")
	for _, test := range []struct {
		in   []Party
		want []string
	}{
		{[]Party{a, a, a}, []string{"ax0", "ax1", "ax2"}},
		{[]Party{a, a, a, b}, []string{"ax0", "ay3", "ax1", "ax2"}},
		{[]Party{a, a, a, b, c}, []string{"ax0", "bx4", "ay3", "ax1", "ax2"}},
		{[]Party{a, b, c, c}, []string{"ax0", "bx2", "ay1", "bx3"}},
	} {
		if got := order(t, test.in...); !slices.Equal(got, test.want) {
			t.Errorf("%v; want %v", got, test.want)
		}
	}
}

// Where too many wait, it is the party with the most in the line that loses one.
func TestLineDropsTheLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(1, 4)
		_ = l.Begin(t.Context(), Party{})
		outcome := map[string][]error{}
		var mu sync.Mutex
		var all sync.WaitGroup
		wait := func(p Party) {
			all.Go(func() {
				err := l.Begin(t.Context(), p)
				if err == nil {
					defer l.End()
				}
				mu.Lock()
				defer mu.Unlock()
				name := p.Plugin + p.User
				outcome[name] = append(outcome[name], err)
			})
			synctest.Wait()
		}
		for range 4 {
			wait(party("a", "x"))
		}
		wait(party("a", "x")) // full, and nobody has more
		if got := outcome["ax"]; len(got) != 1 || !errors.Is(got[0], ErrFull) {
			t.Fatalf("%v", got)
		}
		wait(party("b", "y")) // the last of a's makes room
		wait(party("a", "z")) // the last of x's, too
		if got := outcome["ax"]; len(got) != 3 {
			t.Fatalf("%v", got)
		}
		wait(party("b", "y")) // and once more, so that both plugins have two
		wait(party("b", "y")) // nobody has more: who comes is refused
		l.End()
		all.Wait()
		count := func(name string, want error) (n int) {
			for _, err := range outcome[name] {
				if errors.Is(err, want) {
					n++
				}
			}
			return n
		}
		if count("ax", nil) != 1 || count("az", nil) != 1 || count("by", nil) != 2 || count("by", ErrFull) != 1 {
			t.Errorf("%v", outcome)
		}
		if l.free != 1 || l.room != 4 || len(l.first) != 0 || len(l.plugins) != 0 {
			t.Errorf("left over: %+v", l)
		}
	})
}

// Turns are neither lost nor made, however many leave while they wait.
func TestLineKeepsCount(t *testing.T) {
	const turns, room = 3, 20
	l := NewLine(turns, room)
	var all sync.WaitGroup
	var mu sync.Mutex
	now := 0
	for n := range 60 {
		all.Go(func() {
			p := party(strconv.Itoa(n%3), strconv.Itoa(n%7))
			for i := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if (n+i)%3 == 0 {
					time.AfterFunc(time.Duration(i)*time.Microsecond, cancel)
				}
				if err := l.Begin(ctx, p); err == nil {
					mu.Lock()
					if now++; now > turns {
						t.Errorf("%d have a turn", now)
					}
					mu.Unlock()
					time.Sleep(10 * time.Microsecond)
					mu.Lock()
					now--
					mu.Unlock()
					l.End()
				}
				cancel()
			}
		})
	}
	all.Wait()
	if l.free != turns || l.room != room || len(l.first) != 0 || len(l.plugins) != 0 {
		t.Errorf("left over: %+v", l)
	}
}

func BenchmarkLine(b *testing.B) {
	l := NewLine(2, 100)
	p := party("catalog", "user:default/ann")
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Begin(b.Context(), p)
		l.End()
	}
}

func BenchmarkPool(b *testing.B) {
	l := NewPool(1024)
	p := party("catalog", "user:default/ann")
	b.ReportAllocs()
	for b.Loop() {
		l.Take(p, 1)
		l.Give(p, 1)
	}
}
