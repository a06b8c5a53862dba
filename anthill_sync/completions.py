"""Completion scripts for shells, made from the commands as data. Pure.

All three work alike: skip options and their values to find the command, then offer what may stand at the cursor. Keys
come from ``anthill ls`` of the store that the line names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .cli_tree import Argument, CommandHelp, Option
from .progress import MODES

_FILES, _FOLDERS, _KEYS, _NOTHING = "file", "folder", "key", "none"
_KINDS = {
    "FILE": _FILES,
    "SOURCE": _FILES,
    "DEST": _FILES,
    "DIR": _FOLDERS,
    "KEY": _KEYS,
    "OLD": _KEYS,
    "NEW": _KEYS,
    "PREFIX": _KEYS,
}
_WORDS = {"MODE": "=" + ",".join(MODES), "SHELL": "=bash,fish,zsh"}


def _kind(metavar: str) -> str:
    """What a value is: a kind, or the words themselves behind an equals sign."""
    return _WORDS.get(metavar) or _KINDS.get(metavar, _NOTHING)


def _kinds_of(arguments: Sequence[Argument]) -> str:
    """One kind per argument; ``...`` behind the last when it may be repeated."""
    kinds = [_kind(each.metavar) for each in arguments]
    return " ".join([*kinds, "..."] if arguments and arguments[-1].repeated else kinds)


def _names(options: Sequence[Option]) -> str:
    return " ".join(name for option in options for name in option.names)


def _value_kinds(tree: Sequence[CommandHelp]) -> dict[str, str]:
    """Kind of the value of each option that takes one. An option means the same in every command."""
    found = [(name, _kind(option.metavar)) for each in tree for option in each.options if option.metavar for name in option.names]
    return dict(found)


def _cases(tree: Sequence[CommandHelp]) -> str:
    lines = []
    for each in tree:
        values = f"commands='{' '.join(each.commands)}' options='{_names(each.options)}' kinds='{_kinds_of(each.arguments)}'"
        lines.append(f"        '{each.name}') {values} ;;")
    return "\n".join(lines)


def _value_cases(tree: Sequence[CommandHelp]) -> str:
    return "\n".join(f"        {name}) kind='{kind}' ;;" for name, kind in sorted(_value_kinds(tree).items()))


_SHARED = r"""
_anthill_command() {  # what the command $1 takes
    case "$1" in
@CASES@
    esac
}

_anthill_value() {  # what the value of the option $1 is; fails when it takes none
    case "$1" in
@VALUES@
        *) return 1 ;;
    esac
}
"""

_BASH = r"""# bash completion for anthill; in ~/.bashrc: source <(anthill completion bash)
@SHARED@
_anthill_keys() {  # keys of the store in $1, quoted as they are typed
    local key quoted
    while IFS= read -r key; do
        printf -v quoted %q "$key"
        [[ $quoted == "$2"* ]] && COMPREPLY+=("$quoted")
    done < <("${COMP_WORDS[0]}" ${1:+--home "$1"} ls 2>/dev/null </dev/null)
}

_anthill() {
    local cur="${COMP_WORDS[COMP_CWORD]}" name='' home='' kind='' word place=0 over=0 i
    local commands options kinds
    COMPREPLY=()
    _anthill_command ''
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}" kind=''
        if [[ $over == 0 && $word == -- ]]; then
            over=1
        elif [[ $over == 0 && $word == -?* ]]; then
            if _anthill_value "$word"; then
                [[ ${COMP_WORDS[i + 1]} == '=' ]] && i=$((i + 1))
                i=$((i + 1))
                [[ $word == --home ]] && home="${COMP_WORDS[i]/#\~/$HOME}"
            fi
        elif [[ " $commands " == *" $word "* ]]; then
            name="${name:+$name }$word"
            _anthill_command "$name"
        else
            place=$((place + 1))
        fi
    done
    [[ $cur == '=' ]] && cur=''
    if [[ $i == "$COMP_CWORD" ]]; then  # else the value of an option, whose kind is known
        kind=''
        if [[ $over == 0 && $cur == -* ]]; then
            kind="=${options// /,}"
        elif [[ -n $commands ]]; then
            kind="=${commands// /,}"
        else
            local -a each=($kinds)
            [[ $kinds == *... && $place -ge $((${#each[@]} - 1)) ]] && place=$((${#each[@]} - 2))
            kind="${each[place]}"
        fi
    fi
    case "$kind" in
        =*) kind="${kind#=}"; while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "${kind//,/ }" -- "$cur") ;;
        key) _anthill_keys "$home" "$cur" ;;
        file | folder)
            compopt -o filenames 2>/dev/null
            [[ $kind == folder ]] && kind=-d || kind=-f
            while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen "$kind" -- "$cur") ;;
    esac
}

complete -F _anthill anthill
"""

_ZSH = r"""#compdef anthill
# zsh completion for anthill; in ~/.zshrc, after compinit: source <(anthill completion zsh)
@SHARED@
_anthill() {
    emulate -L zsh
    local name='' home='' kind='' word commands options kinds
    local -i place=0 over=0 i
    local -a found
    _anthill_command ''
    for ((i = 2; i < CURRENT; i++)); do
        word="${words[i]}" kind=''
        if [[ $over == 0 && $word == -- ]]; then
            over=1
        elif [[ $over == 0 && $word == -?* ]]; then
            if [[ $word == --home=* ]]; then
                home="${word#--home=}"
            elif _anthill_value "$word"; then
                i=$((i + 1))
                [[ $word == --home ]] && home="${(Q)words[i]}"
            fi
        elif [[ " $commands " == *" $word "* ]]; then
            name="${name:+$name }$word"
            _anthill_command "$name"
        else
            place=$((place + 1))
        fi
    done
    if [[ $i == $CURRENT ]]; then
        kind=''
        if [[ $over == 0 && ${words[CURRENT]} == -* ]]; then
            kind="=${options// /,}"
        elif [[ -n $commands ]]; then
            kind="=${commands// /,}"
        else
            found=(${(s: :)kinds})
            [[ $kinds == *... && $place -ge $((${#found} - 1)) ]] && place=$((${#found} - 2))
            kind="${found[place + 1]}"
        fi
    fi
    case "$kind" in
        \=*) found=(${(s:,:)${kind#\=}}); compadd -a found ;;
        key) found=(${(f)"$(${(Q)words[1]} ${home:+--home} ${home:+${~home}} ls 2>/dev/null </dev/null)"}); compadd -a found ;;
        file) _files ;;
        folder) _files -/ ;;
    esac
}

compdef _anthill anthill
"""

_FISH = r"""# fish completion for anthill; in ~/.config/fish/config.fish: anthill completion fish | source

function __anthill_state  # the command, then how many arguments stand before the cursor
    set -l with_value @WITH_VALUE@
    set -l groups @GROUPS@
    set -l name
    set -l place 0
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if string match -q -- '-*' $word
            contains -- $word $with_value; and set skip 1
        else if test -z "$name"
            set name $word
        else if contains -- "$name" $groups
            set name "$name $word"
        else
            set place (math $place + 1)
        end
    end
    echo "$name"
    echo $place
end

function __anthill_at  # whether the command is $argv[1], and the cursor at its argument $argv[2] (or later: $argv[3])
    set -l state (__anthill_state)
    test "$state[1]" = "$argv[1]"; or return 1
    set -q argv[2]; or return 0
    test $state[2] = $argv[2]; or begin; set -q argv[3]; and test $state[2] -gt $argv[2]; end
end

function __anthill_keys
    set -l words (commandline -opc)
    set -l home
    for place in (seq (count $words))
        test "$words[$place]" = --home; and set home --home $words[(math $place + 1)]
    end
    command $words[1] $home ls 2>/dev/null </dev/null
end

complete -c anthill -f
@LINES@
"""

_FISH_VALUES = {
    _FILES: "-r -F",
    _FOLDERS: "-x -a '(__fish_complete_directories)'",
    _NOTHING: "-x",
    _KEYS: "-x -a '(__anthill_keys)'",
}
_FISH_ARGUMENTS = {_FILES: "-F", _FOLDERS: "-a '(__fish_complete_directories)'", _KEYS: "-a '(__anthill_keys)'"}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _fish_option(option: Option) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    kind = "" if option.metavar is None else _kind(option.metavar)
    value = f" -x -a {_quoted(kind[1:].replace(',', ' '))}" if kind.startswith("=") else f" {_FISH_VALUES[kind]}" if kind else ""
    return f"{names}{value} -d {_quoted(option.help)}"


def _fish_lines(tree: Sequence[CommandHelp]) -> str:
    helps = {each.name: each.help.split(". ")[0].split("\n")[0] for each in tree}
    lines = []
    for each in tree:
        condition = f"complete -c anthill -n {_quoted(f'__anthill_at {_quoted(each.name)}')}"
        below = [(name, helps[f"{each.name} {name}".strip()]) for name in each.commands]
        lines += [f"{condition} -a {name} -d {_quoted(words)}" for name, words in below]
        lines += [f"{condition} {_fish_option(option)}" for option in each.options]
        for place, argument in enumerate(each.arguments):
            kind, later = _kind(argument.metavar), " more" if argument.repeated else ""
            values = f"-a {_quoted(kind[1:].replace(',', ' '))}" if kind.startswith("=") else _FISH_ARGUMENTS.get(kind)
            if values:
                at = _quoted(f"__anthill_at {_quoted(each.name)} {place}{later}")
                lines.append(f"complete -c anthill -n {at} {values}")
    return "\n".join(lines)


def _shared(template: str, tree: Sequence[CommandHelp]) -> str:
    shared = _SHARED.replace("@CASES@", _cases(tree)).replace("@VALUES@", _value_cases(tree))
    return template.replace("@SHARED@", shared)


def _fish(tree: Sequence[CommandHelp]) -> str:
    groups = " ".join(_quoted(each.name) for each in tree if each.commands and each.path)
    text = _FISH.replace("@WITH_VALUE@", " ".join(sorted(_value_kinds(tree)))).replace("@GROUPS@", groups)
    return text.replace("@LINES@", _fish_lines(tree))


SHELLS: dict[str, Callable[[Sequence[CommandHelp]], str]] = {
    "bash": lambda tree: _shared(_BASH, tree),
    "zsh": lambda tree: _shared(_ZSH, tree),
    "fish": _fish,
}
