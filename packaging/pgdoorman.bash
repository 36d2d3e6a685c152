# Completion of pgdoorman(1) for bash. Written by tools/manual.py: don't edit.

_pgdoorman()
{
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=serve at
    for ((at = 1; at < COMP_CWORD; at++)); do
        if [[ ${COMP_WORDS[at]} == generate ]]; then command=generate; fi
    done
    case $command:$before in
        serve:-l|serve:--log-level) COMPREPLY=($(compgen -W "error warn info debug trace" -- "$word")); return ;;
        serve:-F|serve:--log-format) COMPREPLY=($(compgen -W "text structured" -- "$word")); return ;;
        generate:--host) COMPREPLY=(); return ;;
        generate:-p|generate:--port) COMPREPLY=(); return ;;
        generate:-u|generate:--user) COMPREPLY=(); return ;;
        generate:--password) COMPREPLY=(); return ;;
        generate:-d|generate:--database) COMPREPLY=(); return ;;
        generate:--pool-size) COMPREPLY=(); return ;;
        generate:--server-host) COMPREPLY=(); return ;;
        generate:-o|generate:--output) COMPREPLY=($(compgen -f -- "$word")); return ;;
        generate:-f|generate:--format) COMPREPLY=($(compgen -W "toml yaml" -- "$word")); return ;;
    esac
    case $command:$word in
        generate:*) COMPREPLY=($(compgen -W "--help --host -p --port -u --user --password -d --database --ssl --pool-size -s --session-pool-mode --server-host -o --output -f --format -n --no-comments --reference --ru --russian-comments" -- "$word")) ;;
        serve:-*) COMPREPLY=($(compgen -W "-h --help -V --version -l --log-level -F --log-format -n --no-color -d --daemon -t --test-config --lenient" -- "$word")) ;;
        *) COMPREPLY=($(compgen -W generate -- "$word") $(compgen -f -- "$word")) ;;
    esac
}
complete -o filenames -F _pgdoorman pgdoorman
