// Command clients calls a server with the clients that ogen and oapi-codegen have made from
// the OpenAPI document, each operation once with each. It is a module of its own, so that
// none of them is a dependency of the plugin. .ci/clients/run generates the clients.
//
//	ADMIN_KEY=lm_sys_… clients http://127.0.0.1:8080
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// main calls the server with both clients, and ends with status 1 if an answer is not as
// described. The key comes by the environment, since arguments are in the list of processes.
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: clients <URL of a server>")
		os.Exit(2)
	}
	// A revocation waits for all instances. Here there is one, so a minute is plenty.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, key := os.Args[1], os.Getenv("ADMIN_KEY")
	if err := errors.Join(callByOgen(ctx, url, key), callByOapi(ctx, url, key)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("the clients of ogen and oapi-codegen have called each operation")
}
