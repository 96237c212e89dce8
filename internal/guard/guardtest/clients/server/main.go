// Command server stands in for servers whose images can't be pulled where no registry is: it
// listens at a port, answers HTTP with a page, and prints a line when it is ready. SERVER_PORT and
// SERVER_SAYS of its image say which and what; its arguments, those of the server that it stands in
// for, have no effect.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	l, err := net.Listen("tcp", ":"+os.Getenv("SERVER_PORT"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(os.Getenv("SERVER_SAYS"))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		<-stop
		os.Exit(0)
	}()
	log.Fatal(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "<h1>Welcome to nginx!</h1>") // whoever has gone needs no page
	})))
}
