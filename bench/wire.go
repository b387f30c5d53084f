package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// wire is a connection that sends requests as they are and reads answers as far as
// it takes to know where they end, so that what is measured is the server.
type wire struct {
	conn   net.Conn
	reader *bufio.Reader
}

func dialWire(address string, until time.Time) (*wire, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, reader: bufio.NewReader(conn)}, conn.SetDeadline(until)
}

func request(address, path, credential string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, address, credential)
}

// send returns the status of the answer.
func (w *wire) send(request []byte) (status int, err error) {
	if _, err := w.conn.Write(request); err != nil {
		return 0, err
	}
	length := -1
	for first := true; ; first = false {
		line, err := w.reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		switch line = bytes.TrimRight(line, "\r\n"); {
		case first && len(line) > 12:
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, err
			}
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			if length, err = strconv.Atoi(string(line[16:])); err != nil {
				return 0, err
			}
		case len(line) == 0:
			if length < 0 {
				return 0, errors.New("an answer without a length")
			}
			_, err = io.CopyN(io.Discard, w.reader, int64(length))
			return status, err
		}
	}
}

// letIn sends a key until it gets 200, for as long as it gets 503.
func letIn(address, key string) error {
	w, err := dialWire(address, time.Now().Add(patience))
	if err != nil {
		return err
	}
	defer func() { _ = w.conn.Close() }()
	for raw := request(address, "/", key); ; time.Sleep(100 * time.Millisecond) {
		status, err := w.send(raw)
		if err == nil && status != http.StatusOK && status != http.StatusServiceUnavailable {
			err = fmt.Errorf("a good key got %d", status)
		}
		if err != nil || status == http.StatusOK {
			return err
		}
	}
}
