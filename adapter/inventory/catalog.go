package inventory

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/discovery"
	"github.com/stagedoor/stagedoor/adapter/peer"
)

// A CatalogPuller reads people, groups and entities from the catalog of a running
// Backstage into files.
//
// It asks page by page, and keeps no more than a page in memory. What it has so far is in
// a folder within the directory, so that a pull that was cut goes on where it was. The
// files of the inventory are written in the end, each at once.
type CatalogPuller struct {
	// Discovery says where the catalog is.
	Discovery *discovery.Discovery
	// Token is a token that the catalog takes. What its bearer may not read is not there.
	Token string
	// People asks for people.json and groups.json, Entities for entities.jsonl.
	People, Entities bool
	// Parents gives people the parents of their groups as claims too, all the way up.
	// Backstage's default sign-in gives the groups alone of which they are members.
	Parents bool
	// Progress is told how many of how many entities there are; nil for nobody.
	Progress func(done, of int)
	// Pause is how long to wait before a page is asked for again; 2 s where it is 0.
	Pause time.Duration
}

// A PulledCatalog is how much of a catalog was read.
type PulledCatalog struct {
	People, Groups, Entities int
	// Resumed is how many entities an earlier pull had read.
	Resumed int
}

const (
	pageSize = 250
	maxPage  = 64 << 20
	// tries is how often a page is asked for.
	tries       = 4
	queryPath   = "/entities/by-query"
	pullFolder  = ".pull"
	pullState   = "state.json"
	pulledLines = "entities.jsonl"
)

// Pull reads the catalog into the directory.
//
// The error is the context's, or says what the catalog answered. What was read until then
// is kept: the same call goes on there.
func (c *CatalogPuller) Pull(ctx context.Context, dir string) (*PulledCatalog, error) {
	base, err := c.Discovery.BaseURL(ctx, "catalog")
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	s, err := openSpool(dir, c.query(base))
	if err != nil {
		return nil, err
	}
	pulled := &PulledCatalog{}
	pulled.Resumed, err = c.readPages(ctx, base, s)
	if err = errors.Join(err, s.file.Close()); err != nil {
		if s.state.Entities > 0 {
			err = fmt.Errorf("%w; %d entities are there, and the same command goes on with them", err, s.state.Entities)
		}
		return nil, fmt.Errorf("catalog: %w", err)
	}
	if err := c.write(dir, s, pulled); err != nil {
		return nil, err
	}
	return pulled, os.RemoveAll(s.dir)
}

// query is what is asked for. Entities are ordered, so that none moves to a page that was
// read already.
func (c *CatalogPuller) query(base string) string {
	q := url.Values{"limit": {strconv.Itoa(pageSize)}, "orderField": {"metadata.name,asc"}}
	if !c.Entities {
		q["filter"] = []string{"kind=user", "kind=group"}
		q["fields"] = []string{"kind,metadata.name,metadata.namespace,relations,spec.parent"}
	}
	return base + queryPath + "?" + q.Encode()
}

// page is QueryEntitiesResponse of @backstage/catalog-client.
type page struct {
	Items      []json.RawMessage `json:"items"`
	TotalItems int               `json:"totalItems"`
	PageInfo   struct {
		NextCursor string `json:"nextCursor"`
	} `json:"pageInfo"`
}

// readPages reads what is not there yet. It returns how many entities were.
func (c *CatalogPuller) readPages(ctx context.Context, base string, s *spool) (resumed int, err error) {
	client := peer.NewClient(peer.NewTransport(peer.Options{Idle: 1, IdleFor: 10 * time.Second}))
	resumed = s.state.Entities
	for !s.state.Whole {
		at := s.state.Query
		if s.state.Cursor != "" {
			at = base + queryPath + "?" + url.Values{"limit": {strconv.Itoa(pageSize)}, "cursor": {s.state.Cursor}}.Encode()
			if !c.Entities {
				at += "&" + url.Values{"fields": {"kind,metadata.name,metadata.namespace,relations,spec.parent"}}.Encode()
			}
		}
		p, err := c.read(ctx, client, at)
		if errors.Is(err, errRefused) && s.state.Cursor != "" && s.state.Entities == resumed {
			// The cursor is an earlier pull's, and the catalog knows it no more.
			if err := s.again(); err != nil {
				return 0, err
			}
			resumed = 0
			continue
		}
		if err != nil {
			return 0, err
		}
		if next := p.PageInfo.NextCursor; next != "" && (next == s.state.Cursor || len(p.Items) == 0) {
			return 0, errors.New("it answers with the same page again and again")
		}
		if err := s.add(p); err != nil {
			return 0, err
		}
		if c.Progress != nil {
			c.Progress(s.state.Entities, max(p.TotalItems, s.state.Entities))
		}
	}
	return resumed, nil
}

// errPassing is a failure that may be none the next time.
var errPassing = errors.New("")

// errRefused is what the catalog says of a query that it does not understand.
var errRefused = errors.New("it does not understand what is asked (status 400)")

// read asks for a page, several times where that fails for now.
func (c *CatalogPuller) read(ctx context.Context, client *http.Client, at string) (p *page, err error) {
	for try := range tries {
		if p, err = c.ask(ctx, client, at); err == nil || !errors.Is(err, errPassing) {
			return p, err
		}
		if try == tries-1 {
			break
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(cmp.Or(c.Pause, 2*time.Second) << try):
		}
	}
	return nil, err
}

func (c *CatalogPuller) ask(ctx context.Context, client *http.Client, at string) (*page, error) {
	asking, cancel := context.WithTimeout(ctx, 4*pullTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(asking, http.MethodGet, at, nil)
	if err != nil {
		return nil, errors.New("no request can be made for its URL")
	}
	request.Header.Set("Accept", "application/json")
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	response, err := client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w%w", peer.Error(err), errPassing)
	}
	defer func() { _ = response.Body.Close() }()
	switch status := response.StatusCode; {
	case status == http.StatusOK:
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return nil, fmt.Errorf("it refuses the token (status %d); give one of a user or of a service that Backstage lets in",
			status)
	case status == http.StatusNotFound:
		return nil, errors.New("it has no " + queryPath + " (status 404): is this the base URL of a Backstage backend?")
	case status == http.StatusBadRequest:
		return nil, errRefused
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		return nil, fmt.Errorf("it answers with status %d%w", status, errPassing)
	default:
		return nil, fmt.Errorf("it answers with status %d", status)
	}
	body, err := peer.Read(response.Body, maxPage)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w%w", err, errPassing)
	}
	var p page
	if err := json.Unmarshal(body, &p); err != nil || p.Items == nil {
		return nil, errors.New("its answer is not of the shape {items, totalItems, pageInfo}")
	}
	return &p, nil
}

// write writes the files of the inventory from what was read.
func (c *CatalogPuller) write(dir string, s *spool, pulled *PulledCatalog) error {
	lines, err := s.sorted()
	if err != nil {
		return err
	}
	pulled.Entities = len(lines)
	file, err := os.Open(s.path())
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if c.Entities {
		err := written(filepath.Join(dir, entitiesFile), func(w io.Writer) error {
			for _, l := range lines {
				if _, err := io.Copy(w, io.NewSectionReader(file, l.at, l.length)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if !c.People {
		return nil
	}
	people, groups, err := persons(file, lines, c.Parents)
	if err != nil {
		return err
	}
	pulled.People, pulled.Groups = len(people), len(groups)
	for name, value := range map[string]any{peopleFile: people, groupsFile: groups} {
		text, err := document(value)
		if err != nil {
			return err
		}
		err = written(filepath.Join(dir, name), func(w io.Writer) error {
			_, err := w.Write(text)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// written writes a file beside its place and then puts it there.
func written(name string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	err = errors.Join(write(w), w.Flush(), file.Chmod(0o644))
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// catalogEntity is what a pull looks at of an entity.
type catalogEntity struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Relations []struct {
		Type      string `json:"type"`
		TargetRef string `json:"targetRef"`
	} `json:"relations"`
}

// ref is stringifyEntityRef of @backstage/catalog-model.
func (e catalogEntity) ref() string {
	return strings.ToLower(e.Kind + ":" + cmp.Or(e.Metadata.Namespace, "default") + "/" + e.Metadata.Name)
}

// related are the references of a relation, in order and each once.
func (e catalogEntity) related(relation string) []string {
	var refs []string
	for _, r := range e.Relations {
		if r.Type == relation && strings.HasPrefix(r.TargetRef, "group:") && !slices.Contains(refs, r.TargetRef) {
			refs = append(refs, r.TargetRef)
		}
	}
	slices.Sort(refs)
	return refs
}

// persons are the users and groups among the entities. A user's claims are those of
// getDefaultOwnershipEntityRefs of @backstage/plugin-auth-backend: the user, and the groups
// of which the user is a member.
func persons(file io.ReaderAt, lines []line, parents bool) (map[string]Person, map[string]Group, error) {
	people, groups := map[string]Person{}, map[string]Group{}
	for _, l := range lines {
		user := strings.HasPrefix(l.ref, "user:")
		if !user && !strings.HasPrefix(l.ref, "group:") {
			continue
		}
		text := make([]byte, l.length)
		if _, err := file.ReadAt(text, l.at); err != nil {
			return nil, nil, err
		}
		var e catalogEntity
		if err := json.Unmarshal(text, &e); err != nil {
			return nil, nil, err
		}
		if user {
			people[l.ref] = Person{Claims: append([]string{l.ref}, e.related("memberOf")...)}
			continue
		}
		g := Group{}
		if all := e.related("childOf"); len(all) == 1 {
			g.Parent = all[0]
		} else if len(all) > 1 {
			g.Parents = all
		}
		groups[l.ref] = g
	}
	if parents {
		for ref, p := range people {
			for i := 0; i < len(p.Claims); i++ { // which grows
				for _, parent := range groups[p.Claims[i]].All() {
					if !slices.Contains(p.Claims, parent) {
						p.Claims = append(p.Claims, parent)
					}
				}
			}
			people[ref] = p
		}
	}
	return people, groups, nil
}

// spool is what a pull has read so far: entities in a file, and how far that goes.
type spool struct {
	dir   string
	file  *os.File
	state spoolState
}

type spoolState struct {
	// Query is the first page's, which says where the catalog is and what was asked for.
	Query string `json:"query"`
	// Cursor is the next page's; empty for the first one.
	Cursor string `json:"cursor"`
	// Whole is whether all pages were read.
	Whole    bool  `json:"whole"`
	Entities int   `json:"entities"`
	Bytes    int64 `json:"bytes"`
}

// openSpool opens what an earlier pull of the same query has left, or an empty spool.
func openSpool(dir, query string) (*spool, error) {
	s := &spool{dir: filepath.Join(dir, pullFolder)}
	if err := os.MkdirAll(s.dir, 0o755); err != nil { //nolint:gosec // it is in the author's repository
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(s.dir, pullState))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err != nil || json.Unmarshal(text, &s.state) != nil || s.state.Query != query {
		s.state = spoolState{Query: query}
	}
	if s.file, err = os.OpenFile(s.path(), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	info, err := s.file.Stat()
	if err == nil && info.Size() < s.state.Bytes { // the state outlived the file
		s.state = spoolState{Query: query}
	}
	// What came after the last state is of a page that was cut.
	if err == nil {
		err = s.file.Truncate(s.state.Bytes)
	}
	if err == nil {
		_, err = s.file.Seek(s.state.Bytes, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

// again begins anew.
func (s *spool) again() error {
	s.state = spoolState{Query: s.state.Query}
	_, err := s.file.Seek(0, io.SeekStart)
	return errors.Join(err, s.file.Truncate(0))
}

func (s *spool) path() string { return filepath.Join(s.dir, pulledLines) }

// add adds a page, and then says that it is there.
func (s *spool) add(p *page) error {
	var text bytes.Buffer
	for i, item := range p.Items {
		line, err := canonical(item)
		var e catalogEntity
		if err == nil {
			err = json.Unmarshal(line, &e)
		}
		if err != nil || e.Kind == "" || e.Metadata.Name == "" {
			return fmt.Errorf("item %d after %d entities is no entity: it has no kind or no metadata.name", i+1,
				s.state.Entities)
		}
		text.Write(line)
		text.WriteByte('\n')
	}
	if _, err := s.file.Write(text.Bytes()); err != nil {
		return err
	}
	s.state.Entities += len(p.Items)
	s.state.Bytes += int64(text.Len())
	s.state.Cursor = p.PageInfo.NextCursor
	s.state.Whole = s.state.Cursor == ""
	state, err := json.Marshal(s.state)
	if err != nil {
		return err
	}
	return written(filepath.Join(s.dir, pullState), func(w io.Writer) error {
		_, err := w.Write(state)
		return err
	})
}

// line is where an entity is in the spool.
type line struct {
	ref        string
	at, length int64
}

// sorted are the entities in the order of their references. Of one that came twice, since
// it changed meanwhile, it is what came last.
func (s *spool) sorted() ([]line, error) {
	file, err := os.Open(s.path())
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	places := map[string]line{}
	reader := bufio.NewReader(file)
	for at := int64(0); ; {
		text, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		var e catalogEntity
		if err := json.Unmarshal(text, &e); err != nil {
			return nil, err
		}
		places[e.ref()] = line{e.ref(), at, int64(len(text))}
		at += int64(len(text))
	}
	lines := make([]line, 0, len(places))
	for _, l := range places {
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.ref, b.ref) })
	return lines, nil
}
