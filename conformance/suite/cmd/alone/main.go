// Command alone runs a command in a network of its own, where the machine permits it, and leaves no process behind.
//
//	alone -probe                 ends with 0 where there can be a network of one's own
//	alone -network COMMAND ...   in a network of its own, which has a loopback device only
//	alone COMMAND ...            in the network of the machine
//
// The exit code is the command's.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		fail(errors.New("usage: alone [-probe | [-network] COMMAND ...]"))
	}
	switch args[0] {
	case "-probe":
		os.Exit(inNetwork([]string{"-inside", "true"}))
	case "-network":
		os.Exit(inNetwork(append([]string{"-inside"}, args[1:]...)))
	case "-inside":
		if err := loopbackUp(); err != nil {
			fail(err)
		}
		// Who is still there when this process ends is killed with its process namespace.
		os.Exit(orFail(run(exec.Command(args[1], args[2:]...))))
	}
	os.Exit(runAndReap(args))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "alone:", err)
	os.Exit(125)
}

// inNetwork runs this program again, in a new network, as the first process of a new process namespace. Who may not do
// that becomes root in a new user namespace.
func inNetwork(args []string) int {
	self, err := os.Executable()
	if err != nil {
		fail(err)
	}
	// The kernel means the death of the thread.
	runtime.LockOSThread()
	command := exec.Command(self, args...)
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	code, err := run(command)
	if !errors.Is(err, syscall.EPERM) {
		return orFail(code, err)
	}
	attributes := command.SysProcAttr
	attributes.Cloneflags |= syscall.CLONE_NEWUSER
	attributes.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
	attributes.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	command = exec.Command(self, args...)
	command.SysProcAttr = attributes
	return orFail(run(command))
}

func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("flags of lo: %w", err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	return nil
}

// runAndReap runs the command, and then kills whom it has left: a test that panics leaves its servers.
func runAndReap(args []string) int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fail(fmt.Errorf("subreaper: %w", err))
	}
	code := orFail(run(exec.Command(args[0], args[1:]...)))
	// Whoever is killed leaves its children to this process, until there are none.
	for {
		for _, pid := range children() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if _, err := syscall.Wait4(-1, nil, 0, nil); errors.Is(err, syscall.ECHILD) {
			return code
		}
	}
}

func children() []int {
	var found []int
	// Each thread has its own.
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				found = append(found, pid)
			}
		}
	}
	return found
}

// run returns the command's exit code, 128 + n for death by signal n, or why it could not be started.
func run(command *exec.Cmd) (int, error) {
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := command.Run()
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return 0, err
	}
	status, ok := ended.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return ended.ExitCode(), nil
}

func orFail(code int, err error) int {
	if err != nil {
		fail(err)
	}
	return code
}
