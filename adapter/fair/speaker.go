package fair

import (
	"context"
	"net"
	"sync/atomic"
)

// Speaker is who sends requests on a connection, as far as that is known before the
// next one is verified. It is safe for concurrent use.
type Speaker struct {
	host  string
	party atomic.Pointer[Party]
}

type speakerKey struct{}

// WithSpeaker is a connection's context with its Speaker, of whom the address alone is
// known. It is for [net/http.Server.ConnContext].
func WithSpeaker(ctx context.Context, c net.Conn) context.Context {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String()) // a unix socket has none
	return context.WithValue(ctx, speakerKey{}, &Speaker{host: host})
}

// SpeakerOf returns the Speaker of the connection; nil where it has none.
func SpeakerOf(ctx context.Context) *Speaker {
	s, _ := ctx.Value(speakerKey{}).(*Speaker)
	return s
}

// Was notes who has sent a request that was verified. Of a plugin it is the plugin: it
// asks for many users.
func (s *Speaker) Was(p Party) {
	if s == nil {
		return
	}
	if p.Plugin != "" {
		p.User = ""
	}
	if last := s.party.Load(); last == nil || *last != p {
		s.party.Store(&p)
	}
}

// Says is the party of a request that says to be of that one, and is not verified. It
// is believed of which user it is where the connection is known to be the plugin's; and
// else nothing: strangers could take the shares of as many as they make up.
func (s *Speaker) Says(claimed Party) Party {
	if s == nil {
		return Party{}
	}
	last := s.party.Load()
	switch {
	case last == nil:
		return Party{User: s.host}
	case last.Plugin != "" && last.Plugin == claimed.Plugin:
		return claimed
	}
	return *last
}
