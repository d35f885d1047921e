//! Scripts that teach a shell to complete a program's command lines. All of them ask the program itself, with the hidden
//! command `__complete`, so that they need not change when the program does.

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// GNU bash, 3.2 or newer.
    Bash,
    /// zsh with `compinit`.
    Zsh,
    /// fish 3 or newer.
    Fish,
    /// PowerShell 5 or newer.
    PowerShell,
}

impl Shell {
    /// The shell of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "bash" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            "fish" => Some(Self::Fish),
            "powershell" => Some(Self::PowerShell),
            _ => None,
        }
    }
}

/// The script for the program `name`.
#[must_use]
pub fn script(shell: Shell, name: &str) -> String {
    let template = match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        Shell::PowerShell => POWERSHELL,
    };
    template.trim_start().replace("NAME", name)
}

// DIFF(etcd): its tools print the scripts of their library.

/// Bash splits words at `=` as well, so that the line is split again, and only what is behind `=` is offered.
const BASH: &str = r#"
# bash completion for NAME: source <(NAME completion bash)

__NAME_complete() {
    local line=${COMP_LINE:0:COMP_POINT} out directive last
    local -a words
    COMPREPLY=()
    read -ra words <<<"$line"
    if [[ $line == *[[:space:]] ]]; then words+=(""); fi
    out=$("${words[0]}" __completeNoDesc "${words[@]:1}" 2>/dev/null) || return 0
    directive=${out##*:}
    last=${words[${#words[@]}-1]}
    if [[ $last == -*=* ]]; then last=${last#*=}; fi
    while IFS= read -r line; do
        if [[ -n $line && $line == "$last"* ]]; then COMPREPLY+=("$line"); fi
    done <<<"${out%:*}"
    if ((${#COMPREPLY[@]} == 0 && (directive & 4) == 0)); then
        compopt -o default 2>/dev/null
    fi
    return 0
}

complete -F __NAME_complete NAME
"#;

const ZSH: &str = r#"
#compdef NAME
# zsh completion for NAME: source <(NAME completion zsh), or a file _NAME in a folder of $fpath

_NAME() {
    local out directive line
    local -a offered
    out=$("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null) || return 1
    directive=${out##*:}
    for line in "${(@f)${out%:*}}"; do
        if [[ -n $line ]]; then
            line=${line//:/\\:}
            offered+=("${line/$'\t'/:}")
        fi
    done
    if [[ $PREFIX == -*=* ]]; then compset -P '*='; fi
    if (( $#offered )) && _describe NAME offered; then return 0; fi
    if (( (directive & 4) == 0 )); then _files; fi
}

if [[ $funcstack[1] == _NAME ]]; then
    _NAME "$@"
else
    compdef _NAME NAME
fi
"#;

const FISH: &str = r#"
# fish completion for NAME: NAME completion fish | source

function __NAME_ask
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    $words[1] __complete $words[2..-1] "$last" 2>/dev/null
end

function __NAME_offer
    set -l head (string match -r -- '^-[^=]*=' (commandline -ct))
    for line in (__NAME_ask)
        if not string match -qr -- '^:[0-9]+$' "$line"
            echo -- "$head$line"
        end
    end
end

function __NAME_takes_files
    set -l lines (__NAME_ask)
    test (count $lines) -eq 1; and test "$lines[1]" = :0
end

complete -c NAME -e
complete -c NAME -n __NAME_takes_files -F
complete -c NAME -n 'not __NAME_takes_files' -f -a '(__NAME_offer)'
"#;

const POWERSHELL: &str = r#"
# PowerShell completion for NAME: NAME completion powershell | Out-String | Invoke-Expression

Register-ArgumentCompleter -Native -CommandName 'NAME' -ScriptBlock {
    param($Last, $Ast, $Position)
    $Words = @($Ast.CommandElements | Where-Object { $_.Extent.StartOffset -lt $Position } | ForEach-Object { "$_" })
    $Program = $Words[0]
    $Words = @($Words | Select-Object -Skip 1)
    if ($Last -eq '') {
        if ($PSVersionTable.PSVersion -lt [version]'7.3') { $Words += '""' } else { $Words += '' }
    }
    $Head = if ($Last -match '^-[^=]*=') { $Matches[0] } else { '' }
    & $Program __complete @Words 2>$null | Where-Object { $_ -notmatch '^:\d+$' } | ForEach-Object {
        $Word, $Description = $_ -split "`t", 2
        if (-not $Description) { $Description = $Word }
        $Word = "$Head$Word"
        if ($Word.StartsWith($Last)) {
            [System.Management.Automation.CompletionResult]::new($Word, $Word, 'ParameterValue', $Description)
        }
    }
}
"#;
