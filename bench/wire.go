package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// wire is a connection that sends requests as they are and reads answers as far as
// it takes to know where they end, so that what is measured is the server.
type wire struct {
	conn   net.Conn
	reader *bufio.Reader
	// retryAfter is what the last answer asked for.
	retryAfter time.Duration
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
	w.retryAfter = 0
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
		case bytes.HasPrefix(line, []byte("Retry-After: ")):
			seconds, err := strconv.Atoi(string(line[13:]))
			if err != nil {
				return 0, err
			}
			w.retryAfter = time.Duration(seconds) * time.Second
		case len(line) == 0:
			if length < 0 {
				return 0, errors.New("an answer without a length")
			}
			_, err = io.CopyN(io.Discard, w.reader, int64(length))
			return status, err
		}
	}
}
