package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// TLS says what to speak it with, by files in PEM.
type TLS struct {
	// CertFile has the certificate and what leads to its authority, KeyFile its key.
	CertFile, KeyFile string
	// ClientCAFile has the authorities of clients' certificates. Where it is empty,
	// none are asked for.
	ClientCAFile string
	// ClientsOptional lets clients without a certificate in; one that is shown must be
	// good.
	ClientsOptional bool
}

// Validate reports every file that is missing or cannot be used, joined.
func (t TLS) Validate() error {
	_, err := t.load()
	return err
}

func (t TLS) load() (*tls.Config, error) {
	if t.CertFile == "" || t.KeyFile == "" {
		return nil, errors.New("want certFile and keyFile")
	}
	certificate, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("certFile and keyFile: %w", err)
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"},
	}
	if t.ClientCAFile == "" {
		return c, nil
	}
	text, err := os.ReadFile(t.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("clientCAFile: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("clientCAFile: no certificate in %s", t.ClientCAFile)
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if t.ClientsOptional {
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return c, nil
}

// certificates are those of the files, as they were last good. It is safe for
// concurrent use.
type certificates struct {
	files   TLS
	mutex   sync.Mutex
	current *tls.Config
	read    [3]time.Time // when each of the files was changed that were read last
	checked time.Time
	log     *logrus.Entry // nil until the endpoint serves
}

// tellTo has the log told of what is read anew.
func (c *certificates) tellTo(log *logrus.Entry) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.log = log
}

// checkEvery is how often the files are looked at, at most.
const checkEvery = time.Second

// reload reads these files. Where that fails, the certificates stay.
func (c *certificates) reload(files TLS) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	read := files.changed() // before they are read, so that a change in between is seen later
	loaded, err := files.load()
	if err != nil {
		return err
	}
	c.files, c.read, c.current = files, read, loaded
	c.tell(nil)
	return nil
}

// tell writes that the files were read, or why not.
func (c *certificates) tell(err error) {
	if c.log == nil {
		return
	}
	log := c.log.WithField("file", c.files.CertFile)
	if err != nil {
		log.WithError(err).Warn("the changed certificate is refused, and the old one goes on")
		return
	}
	log.WithField("expires", c.current.Certificates[0].Leaf.NotAfter.UTC().Format(time.RFC3339)).
		Info("the certificate was read anew")
}

// config is what to greet the next client with.
func (c *certificates) config() *tls.Config {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= checkEvery {
		c.checked = now
		if changed := c.files.changed(); changed != c.read {
			c.read = changed
			loaded, err := c.files.load()
			if err == nil {
				c.current = loaded
			}
			c.tell(err)
		}
	}
	return c.current
}

// changed is when each of the files was changed.
func (t TLS) changed() (times [3]time.Time) {
	for i, name := range []string{t.CertFile, t.KeyFile, t.ClientCAFile} {
		if info, err := os.Stat(name); err == nil {
			times[i] = info.ModTime()
		}
	}
	return times
}
