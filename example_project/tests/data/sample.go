// Package sample uses much of the language, formatted the way gofmt does it.
package sample

import (
	"errors"
	"fmt"
	"sort"
)

const (
	Singlepass Kind = iota
	Cranelift       // the usual default
	LLVM            // runs fastest
)

// A Kind is one of the compilers.
type Kind uint8

type Compiler struct {
	Name    string         `json:"name"`
	Kind    Kind           `json:"kind,omitempty"`
	Seconds map[string]int // per module
	next    *Compiler
}

type Runner interface {
	Run(module []byte, args ...uint64) (results []uint64, err error)
	fmt.Stringer
}

type Number interface{ ~int | ~float64 }

var ErrTrap = errors.New("trap: " + `"unreachable" executed`)

var table = [...][2]int{
	{1, 2},
	{30, 4},
}

func Sum[T Number](values ...T) (total T) {
	for _, value := range values {
		total += value
	}
	return
}

func (c *Compiler) String() string { return c.Name }

func (c *Compiler) walk(visit func(*Compiler) bool) error {
outer:
	for i, n := 0, len(c.Seconds); i < n && c != nil; i++ {
		switch kind := c.Kind; {
		case kind == LLVM, i&1 == 0:
			if !visit(c) {
				break outer
			}
		case kind<<2|1 > 5:
			fallthrough
		default:
			c = c.next
		}
	}
	defer func() {
		if r := recover(); r != nil {
			fmt.Println("recovered:", r, -table[0][1]*3+'\n'-0x1F)
		}
	}()

	/* a comment */
	select {
	case x, ok := <-make(chan int, 1):
		_ = x
		_ = ok
	default:
		goto done
	}
	names := []string{"llvm", "cranelift"}
	sort.Slice(names[:1], func(i, j int) bool {
		return names[i] < names[j]
	})
	if s, ok := any(c).(fmt.Stringer); ok {
		fmt.Printf("%s %v\n", s, 1.5e-3+2i)
	} else if true {
		go c.walk(nil)
	}
done:
	return ErrTrap
}
