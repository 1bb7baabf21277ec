package flight

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever asks the same while it is under way gets the same, and a later one another.
func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		made := 0
		ask := func(what string) int {
			f, own := g.Join(t.Context(), what)
			if own != nil {
				made++
				go func() {
					defer f.Cancel()
					time.Sleep(time.Second)
					g.Landed(what, f)
					f.Land(made)
				}()
			}
			<-f.Done()
			return *f.Value()
		}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got := ask("a"); got != 1 {
					t.Errorf("got %d", got)
				}
			})
		}
		all.Wait()
		if got := ask("a"); got != 2 || g.UnderWay() != 0 {
			t.Errorf("got %d, %d under way", got, g.UnderWay())
		}
	})
}

// The context ends with the last one who waits, and no earlier; the time that is left
// is that of the most patient.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f, own := g.Join(short, "a")
		if left := TimeLeft(own); left != time.Second {
			t.Errorf("%v left", left)
		}
		long, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if same, again := g.Join(long, "a"); same != f || again != nil {
			t.Error("not joined")
		}
		if left := TimeLeft(own); left != time.Minute {
			t.Errorf("%v left", left)
		}
		<-short.Done()
		g.Leave("a", f)
		if own.Err() != nil {
			t.Error("ended with the first")
		}
		g.Leave("a", f)
		if own.Err() == nil || g.UnderWay() != 0 {
			t.Error("not ended with the last")
		}
		// What lands late is nobody's, and does not take the place of a newer one.
		newer, _ := g.Join(long, "a")
		g.Landed("a", f)
		f.Land(1)
		f.Land(2)
		if *f.Value() != 1 || g.UnderWay() != 1 {
			t.Errorf("%d, %d under way", *f.Value(), g.UnderWay())
		}
		newer.Cancel()
	})
}

func TestTimeLeftWithoutFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if left := TimeLeft(ctx); left != time.Minute {
			t.Errorf("%v left", left)
		}
	})
}
