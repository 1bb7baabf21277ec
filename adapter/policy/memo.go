package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/maypok86/otter/v2"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// memo remembers the decisions of deterministic policies. A key names the state
// that decided and holds every part of the input that this state's policy reads,
// so that a new policy needs no clearing and an old answer is never served.
//
// It is bounded by bytes and safe for concurrent use.
type memo struct {
	cache *otter.Cache[string, Outcome]
}

// What an entry costs, roughly: so many bytes besides its key, and so many for
// each byte of the decision's JSON, which is kept beside the tree of conditions.
const (
	memoOverhead = 256
	treeFactor   = 4
)

func newMemo(bytes int) (*memo, error) {
	cache, err := otter.New(&otter.Options[string, Outcome]{
		MaximumWeight: uint64(bytes),
		Weigher: func(key string, o Outcome) uint32 {
			return uint32(len(key) + treeFactor*len(o.Decision.AppendJSON(nil)) + len(o.Reason) + memoOverhead)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("memo of decisions: %w", err)
	}
	return &memo{cache: cache}, nil
}

// keys makes the memo keys of one batch: the state and the caller are encoded once.
type keys struct {
	read   parts
	prefix []byte
}

func newKeys(s *State, c Caller) keys {
	b := make([]byte, 0, 192)
	b = binary.AppendUvarint(b, s.serial)
	if s.read&partAnonymous != 0 {
		b = appendBool(b, c.Anonymous)
	}
	if s.read&partUser != 0 {
		b = appendString(b, c.User)
	}
	if s.read&partActor != 0 {
		b = appendString(b, c.Actor)
	}
	if s.read&partClaims != 0 {
		b = appendClaims(b, c.Claims)
	}
	return keys{read: s.read, prefix: b}
}

func (k keys) of(p wire.Permission) string {
	b := append(make([]byte, 0, len(k.prefix)+len(p.Name)+len(p.ResourceType)+16), k.prefix...)
	if k.read&partName != 0 {
		b = appendString(b, p.Name)
	}
	if k.read&partType != 0 {
		b = appendBool(b, p.Resource)
	}
	if k.read&partAction != 0 {
		b = appendString(b, p.Action)
	}
	if k.read&partResourceType != 0 {
		b = appendString(b, p.ResourceType)
	}
	return string(b)
}

// claimsVerbatim is the number of bytes up to which claims stand in a key as
// they are; longer ones are stood for by their SHA-256.
const claimsVerbatim = 128

func appendClaims(b []byte, claims []string) []byte {
	start := len(b)
	b = binary.AppendUvarint(b, uint64(len(claims)))
	for _, claim := range claims {
		b = appendString(b, claim)
	}
	if len(b)-start <= claimsVerbatim {
		return b
	}
	sum := sha256.Sum256(b[start:])
	// No list of claims starts with this count: its own bytes would not fit.
	b = binary.AppendUvarint(b[:start], 1<<63)
	return append(b, sum[:]...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
