package replay_test

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/replay"
)

// FuzzLog reads whatever may stand in a file: never a panic, and packed the same as plain.
func FuzzLog(f *testing.F) {
	const event = `{"decision_id":"1","input":{"permission":{"name":"a","type":"basic","attributes":{"action":"read"}},` +
		`"identity":{"user":"user:default/ann","claims":["user:default/ann"]}},"result":true,"erased":["/input/identity/claims"],` +
		`"custom":{"claims_sha256":"x","caller_claims":["a"],"error":{"message":"no"},"excluded_branches":["1"]}}`
	for _, seed := range []string{
		event, event + "\n" + event, "[" + event + "," + event + "]", "[[" + event + "]]", "]", "[", "{}", "1 2 null", `{"input":null}`,
		`{"custom":{"caller_claims":["a"]}}`, "\x1f\x8b", "\x1f\x8b\x08", "[" + event, event + "]", "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var plain, unpacked replay.Log
		err := plain.Read(t.Context(), bytes.NewReader(text))
		if bytes.HasPrefix(text, []byte{0x1f, 0x8b}) {
			return
		}
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		packedErr := unpacked.Read(t.Context(), &b)
		if (err == nil) != (packedErr == nil) || err != nil && err.Error() != packedErr.Error() {
			t.Errorf("plain: %v; packed: %v", err, packedErr)
		}
	})
}
