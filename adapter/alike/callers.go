// Package alike finds the callers whom a policy cannot tell apart, so that one decision is
// made for all of them.
//
// A policy knows some texts: those written in its rules, and those of its data. Of a
// caller it can ask which of these are among the claims. What else the claims say it can
// only hand on, for instance as params of a condition. So two callers are alike where the
// same known texts are among their claims, in the same order. Take a policy with the rule
//
//	allow if "group:default/sre" in input.identity.claims
//	allow if CATALOG.is_entity_owner(input.resource, input.identity.claims)
//
// For it all callers who are not in sre are alike. [Callers.Kind] says of which kind a
// caller is. The engine decides once for the kind's caller, in whose claims one
// placeholder stands for all that the policy does not know. [Kind.Own] then puts each
// caller's own claims where the placeholder is in the answer. This is a projection of the
// input on what the policy reads of it.
//
// It is sound only where the policy does no more with an unknown text than compare it and
// hand it on. A policy that counts the claims, sorts them or cuts them into parts asks for
// more. A data-flow analysis of the compiled rules shows that it does not ([Look], package
// flow). Where the analysis says no, [Policy.Apart] says why and where, and each caller is
// decided for alone.
package alike

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/alike/flow"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/document"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Callers are the callers of one policy whose decisions are shared by those who are
// alike. They are immutable and safe for concurrent use.
type Callers struct {
	policy *Policy
	// texts are those of the policy and its data.
	texts *texts
	// reads are the parts of the identity that the policy reads.
	reads Reads
	// lists is the parameter of a rule in which a list means "any of" and is therefore
	// sorted, or empty; nil where the policy writes its conditions itself.
	lists func(pluginID string, rule criteria.Rule) string
	// user and claim are the texts that stand for what is not among texts. They have
	// letters in upper case, so that it shows where the policy put them in lower case.
	user, claim placeholder
}

// Reads are the parts of the identity that a policy reads.
type Reads struct{ User, Claims, Actor bool }

// placeholder is a text that stands for others, also in lower case, and both as JSON.
type placeholder struct{ text, lower, quoted, lowerQuoted string }

func newPlaceholder(what string) placeholder {
	text := what + " " + rand.Text() // which no policy can know
	lower := strings.ToLower(text)
	return placeholder{text, lower, quote(text), quote(lower)}
}

// in is whether a text has it anywhere, in any of its two forms.
func (p placeholder) in(text string) bool {
	return strings.Contains(text, p.text) || strings.Contains(text, p.lower)
}

func quote(text string) string {
	b, _ := jsontext.AppendQuote(nil, text) // ill-formed text becomes U+FFFD
	return string(b)
}

// Policy is what of a compiled policy matters to who is alike.
type Policy struct {
	// Apart is why decisions are not shared; empty where they are.
	Apart []flow.Reason

	texts []string
}

// Look looks at a policy as OPA compiled it, with its annotations. Nobody may have changed
// it since.
func Look(c *ast.Compiler, entrypoint ast.Ref) *Policy {
	p := &Policy{Apart: flow.Through(c, entrypoint)}
	if len(p.Apart) > 0 {
		return p
	}
	for _, module := range c.Modules {
		ast.WalkTerms(module, func(term *ast.Term) bool {
			if s, is := term.Value.(ast.String); is {
				p.texts = append(p.texts, string(s))
			}
			return false
		})
	}
	slices.Sort(p.texts)
	p.texts = slices.Compact(p.texts)
	return p
}

// Callers are the callers of the policy with its data; nil where decisions are not shared.
// Where data differs from that of previous, which can be nil, at the changed paths only, no
// other is read.
//
// Where the policy is about the resource, lists says in which parameter of a rule a list
// means "any of", or nothing; it is nil for any other policy.
func (p *Policy) Callers(
	data *document.Document, previous *Callers, changed []storage.Path, reads Reads,
	lists func(pluginID string, rule criteria.Rule) string,
) *Callers {
	if len(p.Apart) > 0 {
		return nil
	}
	var known *texts
	if previous != nil {
		known = previous.texts
	}
	return &Callers{
		policy: p, texts: newTexts(p.texts, data, known, changed), reads: reads, lists: lists,
		user: newPlaceholder("User"), claim: newPlaceholder("Claim"),
	}
}

// With are the callers of the same policy with data that differs from the data before at
// the changed paths only. They are alike in the same way, and so what was decided for a
// kind of them is the kind's still, as far as the data that was read is the same.
func (c *Callers) With(data *document.Document, changed []storage.Path) *Callers {
	if c == nil {
		return nil
	}
	next := *c
	next.texts = newTexts(c.policy.texts, data, c.texts, changed)
	return &next
}

// Kind is what is decided once for all callers who are alike.
type Kind struct {
	// Key is the same for two callers of one policy exactly where they are alike.
	Key [sha256.Size]byte
	// Caller is who stands for all of them.
	Caller decision.Caller

	of     *Callers
	caller decision.Caller // who asks
	rest   []string        // those of the claims that a placeholder stands for
}

// Kind is the caller's; ok is false where nothing of the caller's can be left out, so
// that there is nobody else of the kind. The number stands for the policy in the key.
func (c *Callers) Kind(number uint64, caller decision.Caller) (k Kind, ok bool) {
	if caller.Anonymous || !utf8.ValidString(caller.User) {
		return Kind{}, false
	}
	k = Kind{of: c, caller: caller, Caller: decision.Caller{Actor: caller.Actor}}
	if c.reads.User {
		k.Caller.User = c.user.text
		if c.texts.has(caller.User) {
			k.Caller.User = caller.User
		}
	}
	if c.reads.Claims {
		for _, claim := range caller.Claims {
			switch {
			case c.texts.has(claim):
				k.Caller.Claims = append(k.Caller.Claims, claim)
			case !utf8.ValidString(claim):
				return Kind{}, false // no conditions can have it
			default:
				k.rest = append(k.rest, claim)
			}
		}
		// Without a placeholder a list of them stays as it is, and so does its order.
		if len(k.rest) > 0 {
			slices.Sort(k.Caller.Claims)
			k.Caller.Claims = append(slices.Compact(k.Caller.Claims), c.claim.text)
		}
	}
	if len(k.rest) == 0 && k.Caller.User != c.user.text {
		return Kind{}, false
	}
	k.Key = c.key(number, k.Caller)
	return k, true
}

// key is the SHA-256 of what is decided by.
func (c *Callers) key(number uint64, caller decision.Caller) [sha256.Size]byte {
	b := make([]byte, 0, 512)
	b = append(b, 0) // no key of one caller begins so: policies are numbered from 1
	b = binary.AppendUvarint(b, number)
	b = appendText(b, caller.User)
	if c.reads.Actor {
		b = appendText(b, caller.Actor)
	}
	for _, claim := range caller.Claims {
		b = appendText(b, claim)
	}
	return sha256.Sum256(b)
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// Own is the outcome of the caller, made of the one of the caller's kind: the caller's
// own texts are put where placeholders stand for them. An outcome without placeholders is
// returned as it is. It is false where a placeholder stands somewhere else than as a
// whole text in params or the reason, so that this has to be decided for each caller.
func (k *Kind) Own(o *decision.Outcome) (*decision.Outcome, bool) {
	text := o.Decision.Text()
	if k.Common(o) {
		return o, true
	}
	if k.of.lists != nil && k.of.mixed(text) {
		return nil, false
	}
	put := *o
	var ok bool
	if put.Reason, ok = k.reason(o.Reason); !ok {
		return nil, false
	}
	d := o.Decision
	if d.Result != wire.Conditional || !k.of.marks(text) {
		return &put, true
	}
	if k.of.marks(d.PluginID) || k.of.marks(d.ResourceType) {
		return nil, false
	}
	spliced := 0
	conditions, ok := k.conditions(d.PluginID, d.Conditions, &spliced)
	// A node takes two bytes at least. More than there may be is for the engine to refuse.
	if !ok || len(text)/2+spliced > criteria.MaxNodes {
		return nil, false
	}
	put.Decision = wire.NewConditional(d.PluginID, d.ResourceType, conditions)
	return &put, true
}

// Common reports whether an outcome of the kind is the same for all callers of it: it has no
// placeholders.
func (k *Kind) Common(o *decision.Outcome) bool {
	return !k.of.marks(o.Decision.Text()) && !k.of.marks(o.Reason)
}

// marks is whether a text has a placeholder anywhere.
func (c *Callers) marks(text string) bool { return c.user.in(text) || c.claim.in(text) }

// mixed is whether a text has several placeholders. What they stand for can overlap, and
// so they are not as independent as they were taken to be when conditions were minimised.
func (c *Callers) mixed(text string) bool {
	n := 0
	for _, p := range []string{c.user.text, c.user.lower, c.claim.text, c.claim.lower} {
		if strings.Contains(text, p) {
			n++
		}
	}
	return n > 1
}

// reason is a reason with the caller's own texts. It joins those of several documents, so
// that it can have the user within.
func (k *Kind) reason(text string) (string, bool) {
	if k.of.claim.in(text) {
		return "", false
	}
	text = strings.ReplaceAll(text, k.of.user.text, k.caller.User)
	return strings.ReplaceAll(text, k.of.user.lower, strings.ToLower(k.caller.User)), true
}

// conditions are conditions with the caller's own texts.
func (k *Kind) conditions(pluginID string, c criteria.Criteria, spliced *int) (criteria.Criteria, bool) {
	if c.Op == criteria.Leaf {
		if k.of.marks(c.Rule.Name) || k.of.marks(c.Rule.ResourceType) {
			return c, false
		}
		if !k.of.marks(c.Rule.Params) {
			return c, true
		}
		sorted := ""
		if k.of.lists != nil {
			sorted = k.of.lists(pluginID, c.Rule)
		}
		params, ok := k.params(c.Rule.Params, sorted, spliced)
		c.Rule.Params = params
		return c, ok
	}
	of := make([]criteria.Criteria, len(c.Of))
	for i, child := range c.Of {
		var ok bool
		if of[i], ok = k.conditions(pluginID, child, spliced); !ok {
			return c, false
		}
	}
	c.Of = of
	return c, true
}

// params are a rule's params with the caller's own texts. The list that is the member
// sorted of them stays sorted.
func (k *Kind) params(text, sorted string, spliced *int) (string, bool) {
	p := putting{kind: k, in: jsontext.NewDecoder(strings.NewReader(text)), ok: true}
	p.value(sorted)
	*spliced += p.spliced
	return string(p.out), p.ok && !k.of.marks(string(p.out))
}

// putting puts the caller's own texts into JSON.
type putting struct {
	kind *Kind
	in   *jsontext.Decoder
	out  []byte
	ok   bool
	// spliced is how many claims were put into lists.
	spliced int
}

// value writes the next value.
func (p *putting) value(sorted string) {
	switch p.in.PeekKind() {
	case '{':
		_, _ = p.in.ReadToken()
		p.out = append(p.out, '{')
		for first := true; p.ok && p.in.PeekKind() != '}'; first = false {
			if !first {
				p.out = append(p.out, ',')
			}
			name := p.raw()
			p.out = append(append(p.out, name...), ':')
			if p.in.PeekKind() == '[' {
				p.list(sorted != "" && string(name) == quote(sorted))
			} else {
				p.value("")
			}
		}
		_, _ = p.in.ReadToken()
		p.out = append(p.out, '}')
	case '[':
		p.list(false)
	case '"':
		text := p.raw()
		switch u := p.kind.of.user; string(text) {
		case u.quoted:
			p.out = append(p.out, quote(p.kind.caller.User)...)
		case u.lowerQuoted:
			p.out = append(p.out, quote(strings.ToLower(p.kind.caller.User))...)
		default:
			p.out = append(p.out, text...) // of a claim by itself no value is right, and it is noticed
		}
	default:
		p.out = append(p.out, p.raw()...)
	}
}

// raw is the next name or value as it stands.
func (p *putting) raw() []byte {
	text, err := p.in.ReadValue()
	p.ok = p.ok && err == nil
	return bytes.Clone(text)
}

// list writes the next list.
func (p *putting) list(sorted bool) {
	_, _ = p.in.ReadToken()
	var elements []string
	for p.ok && p.in.PeekKind() != ']' {
		before := p.out
		p.out = nil
		p.value("")
		elements = append(elements, string(p.out))
		p.out = before
	}
	_, _ = p.in.ReadToken()
	if slices.ContainsFunc(elements, func(e string) bool {
		return e == p.kind.of.claim.quoted ||
			e == p.kind.of.claim.lowerQuoted
	}) {
		// One that was in order is that of a set, or was sorted.
		sorted = sorted || len(elements) > 1 && slices.IsSorted(elements)
		if elements = p.splice(elements); sorted {
			slices.Sort(elements)
			elements = slices.Compact(elements)
		}
	}
	p.out = append(p.out, '[')
	p.out = append(p.out, strings.Join(elements, ",")...)
	p.out = append(p.out, ']')
}

// splice returns the elements of a list with the claims where a placeholder stands for them.
// Where all claims stand in a row, so do the caller's, as they came.
func (p *putting) splice(elements []string) []string {
	k := p.kind
	before := k.Caller.Claims[:len(k.Caller.Claims)-1] // that the placeholder comes after
	var list []string
	for _, e := range elements {
		form := quote
		switch e {
		case k.of.claim.quoted:
		case k.of.claim.lowerQuoted:
			form = func(claim string) string { return quote(strings.ToLower(claim)) }
		default:
			list = append(list, e)
			continue
		}
		all := k.rest
		if from := len(list) - len(before); from >= 0 &&
			slices.EqualFunc(list[from:], before, func(e, claim string) bool { return e == form(claim) }) {
			list, all = list[:from], k.caller.Claims
		}
		p.spliced += len(all)
		for _, claim := range all {
			list = append(list, form(claim))
		}
	}
	return list
}
