"""``shimmy chat``: a conversation in the terminal, or with each line of a pipe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shimmy.commands.chat_models import ChatModel, Turn, choose_model
from shimmy.commands.chat_terminal import Keyboard, Screen
from shimmy.commands.options import check_sampling, max_tokens_given, read_stops, read_text
from shimmy.config import Config
from shimmy.errors import InvalidRequest, ShimmyError

HELP = '''/model [NAME]   go on with another model; without NAME, say which it is
/system [TEXT]  the system message from now on; without TEXT, none
/save FILE      write the conversation to a new file; as JSON where its name ends in .json
/clear          forget the conversation, and keep the system message
/help           this
/quit           end, as Ctrl-D does
A line that ends in a backslash goes on in the next; a block begins and ends with """. Ctrl-C stops an answer.'''
_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Until the input ends. On a terminal an error ends its turn; elsewhere it ends the command."""
    check_sampling(args)
    max_tokens_given(args)
    read_stops(args)
    system = read_text(args, "--system")
    keyboard, screen = Keyboard(config.cache_dir / "chat-history"), Screen()
    model = choose_model(config, args, args["MODEL"], screen.note)
    chat = Chat(model, screen, lambda name: choose_model(config, args, name, screen.note), verbose=config.verbose)
    chat.system = system
    try:
        model.open()
        if keyboard.interactive:
            screen.note(f"{model.name}, {model.place} (/help, Ctrl-D ends)")
        _converse(chat, keyboard)
    finally:
        keyboard.close()
        chat.model.close()
    return 0


def _converse(chat: Chat, keyboard: Keyboard) -> None:
    while not chat.ended:
        try:
            text = keyboard.read_turn()
            if text is None:
                break
            chat.take(text)
        except KeyboardInterrupt:
            if not keyboard.interactive:
                raise
            chat.screen.note("")
        except ShimmyError as error:
            if not keyboard.interactive:
                raise
            chat.screen.note(f"shimmy: {error.message}")
    if keyboard.interactive and not chat.ended:
        chat.screen.note("")  # Ctrl-D leaves the cursor behind the prompt


class Chat:
    """A conversation with a model that may change."""

    def __init__(
        self, model: ChatModel, screen: Screen, choose: Callable[[str], ChatModel], *, verbose: bool = False
    ) -> None:
        """``choose`` gives the model of a name, or raises."""
        self.model = model
        self.screen = screen
        self.system: str | None = None
        self.turns: list[Turn] = []
        self.ended = False
        self._choose = choose
        self._verbose = verbose

    def take(self, text: str) -> None:
        """A turn: a command, or something to answer. Raises ShimmyError, and the conversation is as before."""
        command = _COMMAND.fullmatch(text.strip())
        if command is not None:
            self._obey(command[1], (command[2] or "").strip())
        elif text.strip():
            self._ask(text.replace("//", "/", 1) if text.startswith("//") else text)

    def _ask(self, text: str) -> None:
        self.turns.append(Turn("user", text))
        said: list[str] = []

        def show(piece: str, reasoning: str) -> None:
            said.append(piece)
            self.screen.say(piece, reasoning)

        try:
            ended = self.model.answer(self._all_turns(), show)
            if ended.reason == "length":
                self.screen.end_answer()
                self.screen.note(f"(cut off after {ended.n_tokens} tokens: --max-tokens N allows more)")
            if self._verbose:
                self.screen.end_answer()
                self.screen.note(f"({ended.n_tokens} tokens, {ended.tokens_per_second:.1f} tokens/s, {ended.reason})")
        except ShimmyError:
            said.clear()
            raise
        finally:
            # What was seen of an answer that Ctrl-C stopped is part of the conversation.
            self.screen.end_answer()
            if answer := "".join(said):
                self.turns.append(Turn("assistant", answer))
            else:
                self.turns.pop()

    def _all_turns(self) -> list[Turn]:
        return ([] if self.system is None else [Turn("system", self.system)]) + self.turns

    def _obey(self, command: str, value: str) -> None:
        match command:
            case "help":
                for line in HELP.splitlines():
                    self.screen.note(line)
            case "quit":
                self.ended = True
            case "clear":
                self.turns.clear()
                self.screen.note("the conversation is forgotten")
            case "system":
                self.system = value or None
                self.screen.note("the system message is set" if value else "there is no system message")
            case "model":
                self._change_model(value)
            case "save":
                self._save(value)
            case _:
                raise InvalidRequest(f"there is no /{command}: /help shows what there is, and // begins a text with /")

    def _change_model(self, name: str) -> None:
        if name:
            model = self._choose(name)
            self.model.close()
            self.model = model
            model.open()
        self.screen.note(f"{self.model.name}, {self.model.place}")

    def _save(self, name: str) -> None:
        if not name:
            raise InvalidRequest("/save needs the name of a file")
        path = Path(name).expanduser()
        turns = self._all_turns()
        if path.suffix == ".json":
            text = json.dumps(
                {"model": self.model.name, "messages": [turn._asdict() for turn in turns]}, indent=2, ensure_ascii=False
            )
        else:
            text = "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text + "\n")
        except FileExistsError:
            raise ShimmyError(f"{path} is there already: choose another name") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ShimmyError(f"{path} cannot be written: {reason}") from None
        self.screen.note(f"saved {len(turns)} messages to {path}")
