package peer

import "testing"

func TestWithoutSecrets(t *testing.T) {
	for text, want := range map[string]string{
		`Get "https://store/c/b.tar.gz?sv=1&sig=SECRET": dial tcp`:         `Get "https://store/c/b.tar.gz?…": dial tcp`,
		`http://user:SECRET@host/x failed`:                                 `http://…@host/x failed`,
		`http://user:SE@CRET@host/x failed`:                                `http://…@host/x failed`,
		`see https://a/b and https://c/d?x=SECRET next`:                    `see https://a/b and https://c/d?… next`,
		`Get "http://a/b?x=SE CRET": dial tcp`:                             `Get "http://a/b?…": dial tcp`,
		`Get "http://a/b?x=SE\"CRET": dial tcp`:                            `Get "http://a/b?…": dial tcp`,
		`Get "http://a b/c?x=SE CRET": bad, so was "http://c?SECRET"`:      `Get "http://a b/c?…": bad, so was "http://c?…"`,
		`timed out (Get http://a/b?x=SECRET: request timed out)`:           `timed out (Get http://a/b?… request timed out)`,
		`a of "http://a/b", b at http://a/@scope of "c?"`:                  `a of "http://a/b", b at http://a/@scope of "c?"`,
		`{"url":"http://a/b?x=SECRET","c":"d"}`:                            `{"url":"http://a/b?…","c":"d"}`,
		`first "http://a/b?x=SECRET` + "\n" + `second http://a/b?x=SECRET`: `first "http://a/b?…` + "\n" + `second http://a/b?…`,
		`what? nothing`: `what? nothing`,
	} {
		got := WithoutSecrets(text)
		if got != want {
			t.Errorf("%q\ngot  %q\nwant %q", text, got, want)
		}
		if again := WithoutSecrets(got); again != got {
			t.Errorf("%q became %q", got, again)
		}
	}
}
