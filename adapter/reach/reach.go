// Package reach is what a policy may reach beyond its input and data: hosts, and what
// this process knows of its surroundings.
//
// By default that is nothing. [Options.Capabilities] are OPA's own means of saying so,
// for every compiler of a policy; [Options.Check] tells an author which line needs more,
// and what the operator would have to add. [Guard] holds the builtins themselves to it,
// so that what was compiled without capabilities reaches nothing either: OPA compiles
// discovery bundles so.
//
// Builtins that reckon with addresses alone, net.cidr_contains and its siblings, reach
// nothing, and every policy may call them.
package reach

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Options name what policies may reach. The zero value is nothing.
type Options struct {
	// AllowNet are the hosts that http.send, net.lookup_ip_addr and remote references of
	// JSON Schemas may name, without ports (stagedoor.policy.capabilities.allowNet).
	AllowNet []string
	// AllowBuiltins are the builtins that policies may call of those that they may not by
	// default, such as net.lookup_ip_addr (stagedoor.policy.capabilities.allowBuiltins).
	AllowBuiltins []string
}

// The keys of the configuration, as refusals name them.
const (
	netKey      = "stagedoor.policy.capabilities.allowNet"
	builtinsKey = "stagedoor.policy.capabilities.allowBuiltins"
)

// byName are the builtins that a policy may call only where they are named: they tell of
// the process or ask others. What OPA adds to net later is among them.
func byName(builtin string) bool {
	return builtin == ast.OPARuntime.Name ||
		strings.HasPrefix(builtin, "net.") && !strings.HasPrefix(builtin, "net.cidr_")
}

// Validate reports what is wrong with the options, each problem with its key.
func (o Options) Validate() error {
	var problems []error
	for _, host := range o.AllowNet {
		if u, err := url.Parse("http://" + host); err != nil || host == "" || u.Hostname() != host &&
			net.ParseIP(host) == nil {
			problems = append(problems,
				fmt.Errorf("%s: want a host such as api.example.com, without scheme, port and path, have %q",
					netKey, host))
		}
	}
	for _, name := range o.AllowBuiltins {
		switch _, known := ast.BuiltinMap[name]; {
		case !known:
			problems = append(problems, fmt.Errorf("%s: OPA has no builtin %s", builtinsKey, name))
		case !byName(name):
			problems = append(problems, fmt.Errorf("%s: every policy may call %s: leave it out", builtinsKey, name))
		}
	}
	return errors.Join(problems...)
}

// Capabilities are those of OPA for a compiler of policies, and the builtins given that
// OPA does not have. The caller may change them.
func (o Options) Capabilities(more ...*ast.Builtin) *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool { return !o.allows(b.Name) })
	c.Builtins = append(c.Builtins, more...)
	c.AllowNet = append([]string{}, o.AllowNet...) // nil would be every host
	return c
}

func (o Options) allows(builtin string) bool {
	return !byName(builtin) || slices.Contains(o.AllowBuiltins, builtin)
}

// Check is an error for each place of the parsed modules that reaches for more, with
// what to add where the operator agrees. It is nil where there is none. A host that is
// known only when the policy decides is refused then.
func (o Options) Check(modules ...*ast.Module) error {
	c := &checking{options: o}
	for _, module := range modules {
		ast.NewGenericVisitor(c.look).Walk(module)
		for _, a := range module.Annotations {
			for _, schema := range a.Schemas {
				if schema.Definition != nil {
					c.refuse(a.Location, checkReferences(*schema.Definition, o.AllowNet))
				}
			}
		}
	}
	if len(c.problems) == 0 {
		return nil
	}
	return c.problems
}

type checking struct {
	options  Options
	problems ast.Errors
}

// refuse adds a problem, unless there is none.
func (c *checking) refuse(at *ast.Location, problem error) {
	if problem != nil {
		c.problems = append(c.problems, ast.NewError(ast.CompileErr, at, "%v", problem))
	}
}

// look looks at what is called here, and at what is called instead by with.
func (c *checking) look(x any) bool {
	switch x := x.(type) {
	case *ast.Expr:
		if x.IsCall() {
			c.call(x.Location, x.Operator().String(), x.Operands())
		}
		for _, with := range x.With {
			if ref, ok := with.Value.Value.(ast.Ref); ok {
				c.call(with.Location, ref.String(), nil)
			}
		}
	case *ast.Term:
		if call, ok := x.Value.(ast.Call); ok {
			c.call(x.Location, call[0].String(), call[1:])
		}
	}
	return false
}

func (c *checking) call(at *ast.Location, builtin string, operands []*ast.Term) {
	switch {
	case !c.options.allows(builtin):
		if _, known := ast.BuiltinMap[builtin]; known {
			c.refuse(at, fmt.Errorf("policies may not call %s here; where they should, add it to %s", builtin, builtinsKey))
		}
	case builtin == ast.HTTPSend.Name:
		c.refuse(at, c.options.send(operands))
	}
}

// send is why a call of http.send can only fail.
func (o Options) send(operands []*ast.Term) error {
	if len(operands) > 0 {
		if request, ok := operands[0].Value.(ast.Object); ok {
			if to := request.Get(ast.InternedTerm("url")); to != nil {
				if text, ok := to.Value.(ast.String); ok {
					return checkURL(string(text), o.AllowNet)
				}
			}
		}
	}
	if len(o.AllowNet) == 0 {
		return fmt.Errorf("http.send may reach no host here; name the hosts that it should reach in %s", netKey)
	}
	return nil
}

// checkURL refuses the URL of a request to a host that is not among the allowed.
func checkURL(text string, allowed []string) error {
	u, err := url.Parse(strings.Trim(text, `"`)) // as OPA trims it
	switch {
	case err != nil:
		return errors.New("http.send: the url is none")
	case u.Scheme == "unix":
		return errors.New("http.send: sockets of this machine cannot be reached; name a host by http or https")
	}
	return checkHost("http.send", u.Hostname(), allowed)
}

func checkHost(who, host string, allowed []string) error {
	if slices.Contains(allowed, host) {
		return nil
	}
	return fmt.Errorf("%s may not reach the host %q here; where it should, add it to %s", who, host, netKey)
}
