//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// floor is the least that a permission backend can do: verify one signature,
// decode, answer ALLOW, encode; by the standard library, as one would write it.
type floor struct{ key *ecdsa.PublicKey }

// serveFloor is the process of the floor. Args are the directory of the keys.
func serveFloor(ctx context.Context, args []string) error {
	text, err := os.ReadFile(filepath.Join(args[0], pluginKeyFile))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /api/permission/authorize", floor{key.(*ecdsa.PublicKey)})
	mux.Handle("GET /metrics", promhttp.Handler())
	return serveRole(ctx, mux)
}

// serveRole serves on a port of loopback until ctx is done, and prints the URL.
func serveRole(ctx context.Context, handler http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type floorRequest struct {
	Items []struct {
		ID         string `json:"id"`
		Permission struct {
			Type       string `json:"type"`
			Name       string `json:"name"`
			Attributes struct {
				Action string `json:"action"`
			} `json:"attributes"`
			ResourceType string `json:"resourceType"`
		} `json:"permission"`
		ResourceRef any `json:"resourceRef"`
	} `json:"items"`
}

type floorAnswer struct {
	Items []floorItem `json:"items"`
}

type floorItem struct {
	ID     string `json:"id"`
	Result string `json:"result"`
}

func (f floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := f.verify(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	var request floorRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := floorAnswer{Items: make([]floorItem, len(request.Items))}
	for i, item := range request.Items {
		answer.Items[i] = floorItem{ID: item.ID, Result: "ALLOW"}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (f floor) verify(token string) error {
	signed, encoded := cutLast(token, '.')
	_, body, _ := strings.Cut(signed, ".")
	payload, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return err
	}
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	var claims tokenClaims
	if err := json.Unmarshal(payload, &claims); err != nil {
		return err
	}
	if claims.Aud != "permission" || claims.Exp <= time.Now().Unix() {
		return errors.New("not a token for us, or not any more")
	}
	digest := sha256.Sum256([]byte(signed))
	if len(signature) != 64 || !ecdsa.Verify(f.key, digest[:],
		new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		return errors.New("not a signature of the plugin's")
	}
	return nil
}

func cutLast(s string, sep byte) (before, after string) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}
